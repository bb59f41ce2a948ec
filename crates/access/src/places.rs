//! Places that callers share, e.g. for streams that are open at the same time: no caller takes all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Of the places one caller may take this part.
const SHARE: usize = 4;

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// All places are taken.
    #[error("too many are open on this replica; try again later")]
    Full,
    /// The caller has its share.
    #[error("this caller has {0} open, which is the most for one caller; close one of them")]
    Share(usize),
}

/// Places for all callers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    per_caller: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Of each caller that has any.
    taken: HashMap<String, usize>,
}

/// A place, free again once this is dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    principal: Option<String>,
}

impl Places {
    /// This many places, of which one caller may take a quarter.
    pub fn new(places: usize) -> Self {
        let state = Mutex::new(State { free: places, taken: HashMap::new() });
        Self(Arc::new(Shared { per_caller: (places / SHARE).max(1), state }))
    }

    /// Takes a place for a principal; without one, as with access control off, callers are not told apart.
    ///
    /// # Errors
    /// There is none left, or none for this caller.
    pub fn take(&self, principal: Option<&str>) -> Result<Place, NoPlace> {
        let mut state = self.state();
        if state.free == 0 {
            return Err(NoPlace::Full);
        }
        if let Some(principal) = principal {
            let taken = state.taken.get(principal).copied().unwrap_or_default();
            if taken >= self.0.per_caller {
                return Err(NoPlace::Share(self.0.per_caller));
            }
            state.taken.insert(principal.to_owned(), taken + 1);
        }
        state.free -= 1;
        Ok(Place { places: self.clone(), principal: principal.map(str::to_owned) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes of it.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        state.free += 1;
        let Some(principal) = &self.principal else { return };
        match state.taken.get_mut(principal) {
            Some(taken) if *taken > 1 => *taken -= 1,
            _ => _ = state.taken.remove(principal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_leaves_places_for_others_and_a_place_is_free_once_it_is_left() {
        let places = Places::new(8);
        let mut of_eve: Vec<Place> = (0..2).map(|_| places.take(Some("eve")).unwrap()).collect();
        assert_eq!(places.take(Some("eve")).unwrap_err(), NoPlace::Share(2));
        let of_others: Vec<Place> =
            (0..6).map(|number| places.take(Some(&format!("p-{number}"))).unwrap()).collect();
        assert_eq!(places.take(Some("ann")).unwrap_err(), NoPlace::Full);
        of_eve.pop();
        let ann = places.take(Some("ann")).unwrap();
        assert_eq!(places.take(Some("eve")).unwrap_err(), NoPlace::Full);
        drop(ann);
        of_eve.push(places.take(Some("eve")).unwrap());
        drop((of_eve, of_others));
        assert!(places.state().taken.is_empty(), "what is known of a caller ends with its last place");
        assert_eq!(places.state().free, 8);
    }

    #[test]
    fn without_principals_callers_share_all_places() {
        let places = Places::new(2);
        let taken = [places.take(None).unwrap(), places.take(None).unwrap()];
        assert_eq!(places.take(None).unwrap_err(), NoPlace::Full);
        drop(taken);
        // Few places are at least one for each.
        let _ann = places.take(Some("ann")).unwrap();
        assert_eq!(places.take(Some("ann")).unwrap_err(), NoPlace::Share(1));
    }
}
