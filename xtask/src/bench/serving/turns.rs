//! Loads by turns: what is compared is measured in the same minutes, so that what else the machine does meets
//! all alike.

use super::load::Figure;

/// Puts each of the loads on in turn, once to warm up and `rounds` times to measure. The figures of each.
pub(super) fn by_turns(
    names: &[&str],
    rounds: usize,
    load: impl Fn(usize) -> anyhow::Result<Figure>,
) -> anyhow::Result<Vec<Vec<Figure>>> {
    let mut figures = vec![Vec::new(); names.len()];
    for round in 0..=rounds {
        for (at, name) in names.iter().enumerate() {
            eprintln!("==> {name}{}", if round == 0 { " (warm-up)" } else { "" });
            let figure = load(at)?;
            if round > 0 {
                figures[at].push(figure);
            }
        }
    }
    Ok(figures)
}

/// The median of one of the values.
pub(super) fn median(figures: &[Figure], of: fn(&Figure) -> f64) -> f64 {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
