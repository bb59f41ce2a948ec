//! The account that servers run as.
//!
//! A platform that root starts runs its servers as a system account of its own. Another process of the same
//! account could read and change everything that a server has, so a shared account such as `nobody` is not
//! enough.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::{Gid, Uid, User};

use crate::Error;

/// Name of the system account, unless another one is configured.
pub const DEFAULT_ACCOUNT: &str = "slipway";

/// System accounts have numbers below this: `SYS_UID_MAX` of login.defs(5) is 999.
const FIRST_PERSON: u32 = 1_000;
/// The file by which programs that change accounts wait for each other: see lckpwdf(3). It is root's.
const ACCOUNTS_LOCK_FILE: &str = "/etc/.pwd.lock";
/// A name service with a cache shows a new account after a moment.
const LOOKUPS: u32 = 20;
const LOOKUP_PAUSE: Duration = Duration::from_millis(100);

/// The account that servers run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    switch_to: Option<(Uid, Gid)>,
}

impl Account {
    /// Our own account.
    pub const fn ours() -> Self {
        Self { switch_to: None }
    }

    /// Our own account, or if we are root: the system account `name`, which is created if it does not exist.
    ///
    /// # Errors
    /// There is no such account and none can be created, or it is root's or a person's.
    pub fn for_servers(name: &str) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Self::ours());
        }
        let refused = |reason: String| Error::Account { name: name.to_owned(), reason };
        let found = Self::ensure(name)?;
        if found.uid.is_root() {
            return Err(refused("it is root's".to_owned()));
        }
        // An account that was named on purpose may be a person's; the default one would be a coincidence of
        // names.
        if name == DEFAULT_ACCOUNT && found.uid.as_raw() >= FIRST_PERSON && can_log_in(&found) {
            return Err(refused(format!(
                "it is a login account (uid {}) and not a system account",
                found.uid
            )));
        }
        Ok(Self { switch_to: Some((found.uid, found.gid)) })
    }

    /// The account `name`, which is created as a system account if it does not exist. Only root can create
    /// one.
    ///
    /// # Errors
    /// There is no such account and none can be created.
    pub fn ensure(name: &str) -> Result<User, Error> {
        match find(name)? {
            Some(found) => Ok(found),
            None => create(name),
        }
    }

    /// User and group to switch to; `None` for our own account.
    pub const fn ids(self) -> Option<(Uid, Gid)> {
        self.switch_to
    }

    /// Has the command run as this account, without supplementary groups.
    ///
    /// The kernel forgets the parent-death signal when the account changes;
    /// [`crate::process::die_with_parent`] runs later.
    pub(crate) fn apply(self, command: &mut Command) {
        if let Some((uid, gid)) = self.switch_to {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
    }
}

fn find(name: &str) -> Result<Option<User>, Error> {
    User::from_name(name)
        .map_err(|errno| Error::Account { name: name.to_owned(), reason: errno.desc().to_owned() })
}

fn can_log_in(user: &User) -> bool {
    !["nologin", "false"].iter().any(|shell| user.shell.ends_with(shell))
}

/// With `useradd` of the shadow tools, or `adduser` of BusyBox.
///
/// `useradd` looks for the account before it waits for its turn: of two at the same time, the second one
/// replaces the account of the first by one with another number. Ours take turns.
fn create(name: &str) -> Result<User, Error> {
    let _turn = our_turn();
    if let Some(found) = find(name)? {
        return Ok(found);
    }
    let useradd = [
        "useradd",
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir",
        "/nonexistent",
        "--shell",
        "/usr/sbin/nologin",
        name,
    ];
    let adduser = ["adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/sbin/nologin", name];
    let mut reason = String::new();
    for command in [&useradd[..], &adduser[..]] {
        match run(command) {
            Ok(()) => break,
            Err(why) => reason = why,
        }
    }
    for _ in 0..LOOKUPS {
        if let Some(user) = find(name)? {
            return Ok(user);
        }
        std::thread::sleep(LOOKUP_PAUSE);
    }
    Err(Error::Account {
        name: name.to_owned(),
        reason: format!("it does not exist and cannot be created ({reason})"),
    })
}

/// Held while accounts are changed. `None` where the file cannot be opened: then no account can be created
/// either, and `useradd` says why.
fn our_turn() -> Option<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(ACCOUNTS_LOCK_FILE)
        .ok()?;
    // Another kind of lock than that of lckpwdf(3), which `useradd` takes meanwhile.
    file.lock().ok()?;
    Some(file)
}

fn run(command: &[&str]) -> Result<(), String> {
    let [program, arguments @ ..] = command else { return Err("no command".to_owned()) };
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that no other test has; the account is removed again.
    struct Removed(String);

    impl Drop for Removed {
        fn drop(&mut self) {
            let _turn = our_turn();
            if let Err(reason) = run(&["userdel", &self.0]) {
                eprintln!("{}: {reason}", self.0);
            }
        }
    }

    #[test]
    fn platforms_that_start_together_agree_on_the_account() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let account = Removed(format!("slipway-t{}", std::process::id()));
        let name = account.0.as_str();
        let uids: Vec<Uid> = std::thread::scope(|scope| {
            let created: Vec<_> = (0..8).map(|_| scope.spawn(|| create(name).unwrap().uid)).collect();
            created.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let stays = find(name).unwrap().unwrap().uid;
        assert_eq!(uids, [stays; 8]);
    }

    #[test]
    fn servers_of_root_get_an_account_that_is_nobody_elses() {
        let account = Account::for_servers(DEFAULT_ACCOUNT).unwrap();
        let Some((uid, _)) = account.ids() else {
            assert!(!nix::unistd::geteuid().is_root());
            return;
        };
        assert!(!uid.is_root() && uid.as_raw() < 65_534, "{uid}");
        assert_eq!(Account::for_servers(DEFAULT_ACCOUNT).unwrap(), account);
        let refused = Account::for_servers("root").unwrap_err().to_string();
        assert!(refused.contains("root's"), "{refused}");
        let refused = Account::for_servers("not a name: of an account").unwrap_err().to_string();
        assert!(refused.contains("cannot be created") && refused.contains("--run-as"), "{refused}");
    }
}
