//! Finds libqpl for those who link it (feature `link`); otherwise does nothing.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "link")]
    if let Err(error) = pkg_config::Config::new().atleast_version("1.6").probe("qpl") {
        println!("cargo::error=feature link needs QPL and its qpl.pc (Debian: libqpl-dev): {error}");
    }
}
