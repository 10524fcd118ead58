//! A body that comes in pieces, put together up to a limit.
//!
//! Comes in: pieces. Goes out: the whole. Never: a copy of a body that came in one piece, as small ones do.

use bytes::{Bytes, BytesMut};
use hyper::body::SizeHint;

/// The pieces that have come.
pub(crate) struct Pieces {
    max: usize,
    first: Bytes,
    rest: BytesMut,
}

/// There is more than the limit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("longer than {0} bytes")]
pub(crate) struct TooLong(usize);

impl Pieces {
    /// None yet, of a body that says how long it will be: one that is too long need not be read.
    pub(crate) fn expecting(hint: &SizeHint, max: usize) -> Result<Self, TooLong> {
        if hint.lower() > max as u64 {
            return Err(TooLong(max));
        }
        Ok(Self { max, first: Bytes::new(), rest: BytesMut::new() })
    }

    /// One more has come.
    pub(crate) fn add(&mut self, piece: Bytes) -> Result<(), TooLong> {
        if self.first.len() + self.rest.len() + piece.len() > self.max {
            return Err(TooLong(self.max));
        }
        if self.first.is_empty() {
            self.first = piece;
        } else {
            self.rest.extend_from_slice(&piece);
        }
        Ok(())
    }

    /// The whole.
    pub(crate) fn join(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { [self.first, self.rest.freeze()].concat().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(pieces: &[&'static str], max: usize) -> Result<Bytes, TooLong> {
        let mut all = Pieces::expecting(&SizeHint::new(), max)?;
        pieces.iter().try_for_each(|piece| all.add(Bytes::from_static(piece.as_bytes())))?;
        Ok(all.join())
    }

    #[test]
    fn pieces_are_joined_in_order_up_to_the_limit() {
        assert_eq!(joined(&[], 0).unwrap(), "");
        assert_eq!(joined(&["", "ab", "", "c", "d"], 4).unwrap(), "abcd");
        assert_eq!(joined(&["ab", "c", "d"], 3), Err(TooLong(3)));
    }

    #[test]
    fn a_body_that_says_it_is_too_long_is_refused_before_its_first_piece() {
        assert_eq!(Pieces::expecting(&SizeHint::with_exact(4), 3).err(), Some(TooLong(3)));
    }
}
