//! The `matchstick` command; everything is in the library's `cli`.

fn main() {
    let status = matchstick::cli::main(std::env::args_os().skip(1));
    std::process::exit(status.into());
}
