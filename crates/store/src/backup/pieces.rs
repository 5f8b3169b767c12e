//! Files of any size in a backup, in pieces.
//!
//! *Invariant*: no more of a file than a piece is in memory.

use crate::{StoreError, create_data_dir, restrict};
use sqlx::SqliteConnection;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

const PIECE: u64 = 4 * 1024 * 1024;

/// Adds a file, unless it has gone meanwhile.
pub(super) async fn add(
    backup: &mut SqliteConnection,
    name: &Path,
    path: &Path,
) -> Result<(), StoreError> {
    let wrong = |e| StoreError::io(path, e);
    let mut file = match File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(wrong)?,
    };
    for number in 0_i64.. {
        let mut piece = Vec::new();
        let read = Read::by_ref(&mut file).take(PIECE).read_to_end(&mut piece);
        // One that is empty has a piece, too.
        if read.map_err(wrong)? == 0 && number > 0 {
            break;
        }
        sqlx::query("INSERT INTO file_piece (name, number, content) VALUES (?, ?, ?)")
            .bind(name.to_string_lossy().into_owned())
            .bind(number)
            .bind(piece)
            .execute(&mut *backup)
            .await?;
    }
    Ok(())
}

/// The names of such files; backups of before there were any have none.
pub(super) async fn names(backup: &mut SqliteConnection) -> Result<Vec<String>, StoreError> {
    let table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'file_piece'";
    if sqlx::query(table)
        .fetch_optional(&mut *backup)
        .await?
        .is_none()
    {
        return Ok(Vec::new());
    }
    let names: Vec<(String,)> = sqlx::query_as("SELECT DISTINCT name FROM file_piece")
        .fetch_all(backup)
        .await?;
    Ok(names.into_iter().map(|(name,)| name).collect())
}

/// Writes a file out, to the disk.
pub(super) async fn take(
    backup: &mut SqliteConnection,
    name: &str,
    path: &Path,
) -> Result<(), StoreError> {
    let wrong = |e| StoreError::io(path, e);
    if let Some(parent) = path.parent() {
        create_data_dir(parent)?;
    }
    let mut file = File::create(path).map_err(wrong)?;
    restrict(path)?;
    for number in 0_i64.. {
        let piece: Option<(Vec<u8>,)> =
            sqlx::query_as("SELECT content FROM file_piece WHERE name = ? AND number = ?")
                .bind(name)
                .bind(number)
                .fetch_optional(&mut *backup)
                .await?;
        let Some((piece,)) = piece else { break };
        file.write_all(&piece).map_err(wrong)?;
    }
    file.sync_all().map_err(wrong)
}
