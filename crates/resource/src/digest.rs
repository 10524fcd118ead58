//! SHA-256 digests.

use sha2::{Digest as _, Sha256};

/// The SHA-256 of a text or of bytes, in hexadecimal.
pub fn sha256(content: impl AsRef<[u8]>) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    Sha256::digest(content).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
