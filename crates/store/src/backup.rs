//! Backup and restore: one SQLite file that also holds the files of the data directory.
//!
//! *Invariant*: a file under the name asked for is whole; a restore never touches a data
//! directory that a server runs on, and keeps the database that it replaces.

mod pieces;

use crate::files::is_incoming;
use crate::{DATABASE_FILE, DataLock, FILES_FOLDER, Store, StoreError, options, restrict};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};
use std::path::{Component, Path, PathBuf};

/// Files of the data directory, and in pieces those that people uploaded: they can be of any size.
const TABLES: &str = "\
CREATE TABLE file (name TEXT PRIMARY KEY NOT NULL, content BLOB NOT NULL);\
CREATE TABLE file_piece (name TEXT NOT NULL, number BIGINT NOT NULL, content BLOB NOT NULL, \
PRIMARY KEY (name, number));";

const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
const DEPTH_MAX: usize = 8;
const KEPT_SUFFIX: &str = "before-restore";

impl Store {
    /// Writes a copy of the database, as it is at one moment, and of the other files of the
    /// data directory (certificates, keys, what people uploaded) to `file`, which must not exist.
    pub async fn backup(&self, file: &Path) -> Result<(), StoreError> {
        if file.exists() {
            return Err(StoreError::Exists(file.display().to_string()));
        }
        if lies_in(file, self.data())? {
            return Err(StoreError::InsideData(file.display().to_string()));
        }
        let partial = with_suffix(file, "partial");
        remove_if_there(&partial)?;
        sqlx::query("VACUUM INTO ?")
            .bind(partial.display().to_string())
            .execute(self.pool())
            .await?;
        restrict(&partial)?;
        self.add_files(&partial).await?;
        sync(&partial)?;
        std::fs::rename(&partial, file).map_err(|e| StoreError::io(file, e))
    }

    async fn add_files(&self, partial: &Path) -> Result<(), StoreError> {
        let mut connection = connect_plain(partial).await?;
        let mut tx = connection.begin().await?;
        sqlx::raw_sql(TABLES).execute(&mut *tx).await?;
        for name in files_of(self.data(), Path::new(""), 0)? {
            let path = self.data().join(&name);
            if name.starts_with(FILES_FOLDER) {
                pieces::add(&mut tx, &name, &path).await?;
                continue;
            }
            let content = std::fs::read(&path).map_err(|e| StoreError::io(&path, e))?;
            sqlx::query("INSERT INTO file (name, content) VALUES (?, ?)")
                .bind(name.to_string_lossy().into_owned())
                .bind(content)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(connection.close().await?)
    }
}

/// Whether the file would be in the directory or below it, whatever links lead there.
fn lies_in(file: &Path, directory: &Path) -> Result<bool, StoreError> {
    let parent = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let real = |path: &Path| path.canonicalize().map_err(|e| StoreError::io(path, e));
    Ok(real(parent)?.starts_with(real(directory)?))
}

/// Puts a backup in the place of what `data` holds; the database that was there stays beside
/// it as `sidetone.db.before-restore`.
pub async fn restore(file: &Path, data: &Path) -> Result<(), StoreError> {
    if !file.is_file() {
        return Err(StoreError::NotFound(format!("file {}", file.display())));
    }
    let _lock = DataLock::acquire(data)?;
    let database = data.join(DATABASE_FILE);
    let incoming = with_suffix(&database, "incoming");
    remove_if_there(&incoming)?;
    std::fs::copy(file, &incoming).map_err(|e| StoreError::io(&incoming, e))?;
    restrict(&incoming)?;
    if let Err(error) = unpack(file, &incoming, data).await {
        remove_if_there(&incoming)?;
        return Err(error);
    }
    sync(&incoming)?;
    set_aside(&database).await?;
    std::fs::rename(&incoming, &database).map_err(|e| StoreError::io(&database, e))
}

/// Checks the copy, writes its files into `data`, and takes them out of the copy.
async fn unpack(file: &Path, incoming: &Path, data: &Path) -> Result<(), StoreError> {
    let bad = |why: String| StoreError::BadBackup(file.display().to_string(), why);
    let mut connection = connect_plain(incoming)
        .await
        .map_err(|e| bad(e.to_string()))?;
    let (verdict,): (String,) = sqlx::query_as("PRAGMA integrity_check(1)")
        .fetch_one(&mut connection)
        .await
        .map_err(|e| bad(e.to_string()))?;
    if verdict != "ok" {
        return Err(bad(verdict));
    }
    sqlx::query("SELECT count(*) FROM account")
        .fetch_one(&mut connection)
        .await
        .map_err(|_| bad("it holds no accounts".to_owned()))?;
    let rows = sqlx::query("SELECT name, content FROM file")
        .fetch_all(&mut connection)
        .await
        .map_err(|_| bad("it was not made by `sidetone backup`".to_owned()))?;
    for row in &rows {
        let name = inside(row.try_get("name")?).map_err(bad)?;
        write_private(&data.join(name), row.try_get("content")?)?;
    }
    for name in pieces::names(&mut connection).await? {
        let path = data.join(inside(&name).map_err(bad)?);
        pieces::take(&mut connection, &name, &path).await?;
    }
    // What they took in the copy is given back to the disk.
    sqlx::raw_sql("DROP TABLE file; DROP TABLE IF EXISTS file_piece; VACUUM")
        .execute(&mut connection)
        .await?;
    Ok(connection.close().await?)
}

/// A backup is a file from outside: its names stay inside the data directory.
fn inside(name: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(name);
    match path.components().all(|c| matches!(c, Component::Normal(_))) {
        true => Ok(path),
        false => Err(format!("it names {name}")),
    }
}

async fn set_aside(database: &Path) -> Result<(), StoreError> {
    if !database.exists() {
        return Ok(());
    }
    // Opening and closing folds the write-ahead log in.
    let mut connection = SqliteConnection::connect_with(&options(database, 2)).await?;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    for tail in ["-wal", "-shm"] {
        let mut name = database.as_os_str().to_owned();
        name.push(tail);
        remove_if_there(Path::new(&name))?;
    }
    let kept = with_suffix(database, KEPT_SUFFIX);
    std::fs::rename(database, &kept).map_err(|e| StoreError::io(&kept, e))
}

/// Regular files below `data`, without the database, the lock and the control socket.
fn files_of(data: &Path, below: &Path, depth: usize) -> Result<Vec<PathBuf>, StoreError> {
    let mut files = Vec::new();
    let directory = data.join(below);
    let entries = std::fs::read_dir(&directory).map_err(|e| StoreError::io(&directory, e))?;
    for entry in entries {
        let entry = entry.map_err(|e| StoreError::io(&directory, e))?;
        let name = below.join(entry.file_name());
        let metadata = entry
            .metadata()
            .map_err(|e| StoreError::io(&entry.path(), e))?;
        if metadata.is_dir() && depth < DEPTH_MAX {
            files.extend(files_of(data, &name, depth + 1)?);
        } else if metadata.is_file() && is_kept(&name, metadata.len()) {
            files.push(name);
        }
    }
    Ok(files)
}

fn is_kept(name: &Path, octets: u64) -> bool {
    match name.starts_with(FILES_FOLDER) {
        true => !is_incoming(name),
        false => octets <= FILE_BYTES_MAX && !is_ours(name),
    }
}

fn is_ours(name: &Path) -> bool {
    let text = name.to_string_lossy();
    text.starts_with(DATABASE_FILE) || text.ends_with(".lock") || text.ends_with(".partial")
}

/// Without a write-ahead log of its own: the file stands alone when it is closed.
async fn connect_plain(file: &Path) -> Result<SqliteConnection, StoreError> {
    let options = options(file, 2)
        .create_if_missing(false)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Delete);
    Ok(SqliteConnection::connect_with(&options).await?)
}

fn write_private(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    if let Some(parent) = path.parent() {
        crate::create_data_dir(parent)?;
    }
    std::fs::write(path, content).map_err(|e| StoreError::io(path, e))?;
    restrict(path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io(path, e)),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), StoreError> {
    let file = std::fs::File::open(path).map_err(|e| StoreError::io(path, e))?;
    file.sync_all().map_err(|e| StoreError::io(path, e))
}
