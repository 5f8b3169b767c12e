//! Names that say nothing, and paths that exist on one machine only.
//!
//! *Invariant:* what this file forbids does not appear in it either; the forbidden paths
//! are put together from their parts.

use crate::tree::Tree;

/// A file or folder with one of these names has no owner and collects everything.
const EMPTY_NAMES: &[&str] = &[
    "common", "util", "utils", "helper", "helpers", "manager", "misc",
];

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let named = tree
        .paths()
        .filter(|path| has_empty_name(path))
        .map(|path| format!("{path}: a name that says nothing; give the code a home that owns it"));
    let machine = tree
        .files()
        .filter(|(path, _)| !path.ends_with(".lock"))
        .flat_map(|(path, text)| {
            let lines = text
                .lines()
                .enumerate()
                .filter(|(_, line)| has_machine_path(line));
            lines.map(move |(index, _)| format!("{path}:{}: a path of one machine", index + 1))
        });
    named.chain(machine).collect()
}

fn has_empty_name(path: &str) -> bool {
    path.split('/')
        .any(|part| EMPTY_NAMES.contains(&part.split('.').next().unwrap_or(part)))
}

fn has_machine_path(line: &str) -> bool {
    let fixed = ["root", "work"]
        .iter()
        .any(|folder| line.contains(&["/", folder, "/"].concat()));
    fixed
        || line
            .split(&["/", "home", "/"].concat())
            .skip(1)
            .any(is_home_of_a_person)
}

fn is_home_of_a_person(rest: &str) -> bool {
    let name = rest
        .find(|c: char| !c.is_ascii_lowercase())
        .unwrap_or(rest.len());
    name > 0 && rest[name..].starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_names_are_found_wherever_they_stand() {
        assert!(has_empty_name("crates/common/src/lib.rs"));
        assert!(has_empty_name("crates/sip/src/utils.rs"));
        assert!(!has_empty_name("crates/sip/src/commonality.rs"));
    }

    #[test]
    fn machine_paths_are_found() {
        assert!(has_machine_path(&["see /", "home", "/ann/x"].concat()));
        assert!(has_machine_path(&["see /", "root", "/x"].concat()));
        assert!(!has_machine_path("frameworks, /homepage/x, a workspace/"));
    }
}
