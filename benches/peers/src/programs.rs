//! Programs of others, found before anything is run: which file, or what to install.

use std::path::{Path, PathBuf};

/// A program that is not there.
#[derive(Debug, thiserror::Error)]
#[error("there is no {}; it is in {package}. Install that, or leave the system out of --systems", program.display())]
pub struct Missing {
    program: PathBuf,
    package: &'static str,
}

/// Whether the system would find `program`: as a file, or by its name alone in one of the directories of `PATH`.
pub fn find(program: &Path, package: &'static str) -> Result<(), Missing> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let is_there = if program.components().count() > 1 {
        program.is_file()
    } else {
        std::env::split_paths(&search).any(|directory| directory.join(program).is_file())
    };
    if is_there { Ok(()) } else { Err(Missing { program: program.to_owned(), package }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_name_or_as_a_file_and_else_the_package_is_named() {
        assert!(find(Path::new("sh"), "every system").is_ok());
        assert!(find(Path::new("/bin/sh"), "every system").is_ok());
        let missing = find(Path::new("no-such-server"), "the package nothing").expect_err("it is not there");
        let said = missing.to_string();
        assert!(said.contains("no-such-server") && said.contains("the package nothing"), "{said}");
        assert!(find(Path::new("./sh/none"), "").is_err());
    }
}
