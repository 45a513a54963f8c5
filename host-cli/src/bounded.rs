//! Files read whole, up to a size: nothing that names a file, and nobody who writes one, can ask for all memory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Settings, configurations, keys, and state that holds one thing: a thousand times what they are.
pub const SMALL: u64 = 4 << 20;
/// What grows with time or with the number of symbols: logs of activations and reports.
pub const GROWING: u64 = 256 << 20;
/// Trained models: about thirty times one of 5000 trees of depth 6.
pub const TRAINED: u64 = 1 << 30;
/// Arrays of rows.
pub const ROWS: u64 = 8 << 30;

/// The bytes of a file.
///
/// # Errors
/// It cannot be read, or has more than `most` bytes ([`io::ErrorKind::FileTooLarge`]).
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_if(path, b"", most)
}

/// The bytes of a file of the state. What is no regular file, a pipe say, could hold a rollback up without end.
///
/// # Errors
/// Those of [`read`], and what is no regular file ([`io::ErrorKind::InvalidInput`]).
pub fn read_state(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.is_file() {
        read(path, most)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file; remove it"))
    }
}

/// The bytes of a file, if it begins with `magic`; else no more than as many bytes of it.
///
/// # Errors
/// Those of [`read`].
pub fn read_if(path: &Path, magic: &[u8], most: u64) -> io::Result<Vec<u8>> {
    let (mut file, mut bytes) = (File::open(path)?, Vec::new());
    file.by_ref().take(magic.len() as u64).read_to_end(&mut bytes)?;
    if bytes == magic {
        file.take(most.saturating_add(1).saturating_sub(bytes.len() as u64)).read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 > most {
        let words = format!("it is larger than {} MiB, which no such file is", most >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, words));
    }
    Ok(bytes)
}

/// The text of a file.
///
/// # Errors
/// Those of [`read`], and bytes that are no UTF-8 ([`io::ErrorKind::InvalidData`]).
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    read(path, most).and_then(text)
}

/// These bytes as text.
///
/// # Errors
/// They are no UTF-8 ([`io::ErrorKind::InvalidData`]).
pub fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_larger_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "1234").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "1234");
        let refused = read(&path, 3).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
        // A file without end takes no more than the limit and what a vector grows by.
        assert_eq!(read(Path::new("/dev/zero"), 1 << 16).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_if(&path, b"12", 4).unwrap(), b"1234");
        assert_eq!(read_if(&path, b"13", 4).unwrap(), b"12", "what begins otherwise is not read on");
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path, 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
