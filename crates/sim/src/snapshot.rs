//! Ladders that were looked at once and are to stay as they are.
//!
//! *Invariant*: a snapshot is rewritten only when the environment says `UPDATE_SNAPSHOTS=1`.

use std::path::Path;

/// Compares with `tests/snapshots/NAME.txt`.
///
/// # Panics
/// When they differ, or there is no such file.
#[track_caller]
pub fn assert_snapshot(name: &str, text: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, text));
        assert!(written.is_ok(), "{}: {written:?}", path.display());
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{name} is not as it was (UPDATE_SNAPSHOTS=1 accepts).\n--- was\n{kept}\n--- is\n{text}"
    );
}
