//! The files of the repository, as git tracks them.
//!
//! *Invariant:* paths are relative to the root and use `/`; a file that is tracked but
//! deleted from the work tree is absent here.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every tracked text file with its contents.
pub(crate) struct Tree {
    root: PathBuf,
    files: BTreeMap<String, String>,
    present: Vec<String>,
}

impl Tree {
    pub(crate) fn open() -> io::Result<Self> {
        let root =
            PathBuf::from(git(Path::new("."), &["rev-parse", "--show-toplevel"])?.trim_end());
        let present: Vec<String> = git(&root, &["ls-files", "-z"])?
            .split('\0')
            .filter(|path| !path.is_empty() && root.join(path).is_file())
            .map(str::to_owned)
            .collect();
        let files = present
            .iter()
            .filter_map(|path| Some((path.clone(), std::fs::read_to_string(root.join(path)).ok()?)))
            .collect();
        Ok(Self {
            root,
            files,
            present,
        })
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self {
            root: PathBuf::new(),
            files: files
                .iter()
                .map(|(path, text)| ((*path).into(), (*text).into()))
                .collect(),
            present: files.iter().map(|(path, _)| (*path).into()).collect(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Text files in order of their paths.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Text files whose path ends in `suffix`.
    pub(crate) fn ending<'t>(
        &'t self,
        suffix: &'t str,
    ) -> impl Iterator<Item = (&'t str, &'t str)> {
        self.files().filter(move |(path, _)| path.ends_with(suffix))
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Is `path` a tracked file (text or not), or a folder that holds one? `""` is the root.
    pub(crate) fn holds(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        path.is_empty()
            || self
                .present
                .iter()
                .any(|file| file == path || file.starts_with(&folder))
    }

    /// Every tracked path, text or not.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.present.iter().map(String::as_str)
    }
}

fn git(folder: &Path, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    String::from_utf8(output.stdout).map_err(io::Error::other)
}
