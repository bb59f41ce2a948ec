//! Builds again when a migration is added: migrations are read into the program.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
