//! A new migration is a reason to build again: it is read into the program.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
