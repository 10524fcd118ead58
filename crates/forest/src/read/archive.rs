//! Reads zip archives in memory: stored and deflated entries, without zip64 and encryption. What a file unpacks to is
//! bounded, whatever sizes it states.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;

use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::data::seen::Seen;
use crate::read::error::{Limits, Problem};

const END: [u8; 4] = *b"PK\x05\x06";
const END_LENGTH: usize = 22;
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const CENTRAL_LENGTH: usize = 46;
const LOCAL: [u8; 4] = *b"PK\x03\x04";
const LOCAL_LENGTH: usize = 30;
/// The longest comment behind the directory.
const COMMENT_MAX: usize = 0xffff;
/// A byte of deflate unpacks to no more than this.
const RATIO_MAX: usize = 1032;

/// An archive whose directory is checked.
pub(crate) struct Archive<'a> {
    bytes: &'a [u8],
    entries: BTreeMap<&'a str, Entry>,
    /// How many bytes may still be unpacked, over all entries.
    budget: Cell<usize>,
    budget_max: usize,
}

struct Entry {
    is_deflated: bool,
    packed: usize,
    size: usize,
    checksum: u32,
    offset: usize,
}

impl<'a> Archive<'a> {
    /// Reads the directory. All entries together unpack to at most `budget` bytes.
    pub(crate) fn open(bytes: &'a [u8], budget: usize) -> Result<Self, Problem> {
        let end = end(bytes).ok_or_else(|| Problem::malformed("the zip archive has no directory"))?;
        let (count, size, start) = (short(end, 10)?, long(end, 12)?, long(end, 16)?);
        if count == 0xffff || start == 0xffff_ffff {
            return Err(Problem::unsupported(
                "a zip64 archive",
                "save a model with fewer than 65,535 arrays",
            ));
        }
        if short(end, 4)? != 0 || short(end, 6)? != 0 {
            return Err(Problem::malformed("the zip archive has several parts"));
        }
        let directory = start.checked_add(size).and_then(|end| bytes.get(start..end));
        let mut directory =
            directory.ok_or_else(|| Problem::malformed("the directory is outside the zip archive"))?;
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let (name, entry, rest) = central(directory)?;
            if entries.insert(name, entry).is_some() {
                return Err(Problem::malformed(format!("entry {} is in the archive twice", Seen::new(name))));
            }
            directory = rest;
        }
        Ok(Self { bytes, entries, budget: Cell::new(budget), budget_max: budget })
    }

    /// The names of the entries, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.entries.keys().copied()
    }

    /// The bytes of an entry.
    pub(crate) fn read(&self, name: &str) -> Result<Cow<'a, [u8]>, Problem> {
        let entry = self.entries.get(name);
        let entry = entry
            .ok_or_else(|| Problem::malformed(format!("entry {} is not in the archive", Seen::new(name))))?;
        let place = |what: &str| Problem::malformed(format!("entry {} {what}", Seen::new(name)));
        let left = self.budget.get().checked_sub(entry.size);
        self.budget.set(left.ok_or(Problem::Limit {
            what: "unpacked bytes",
            found: self.budget_max.saturating_add(1),
            max: self.budget_max,
        })?);
        let packed = self.packed(name, entry).ok_or_else(|| place("is not where the directory says"))?;
        let bytes = if entry.is_deflated {
            if entry.size / RATIO_MAX > packed.len() {
                return Err(place("states a size that it cannot have"));
            }
            Cow::Owned(
                decompress_to_vec_with_limit(packed, entry.size)
                    .map_err(|_| place("does not unpack to the size that it states"))?,
            )
        } else {
            Cow::Borrowed(packed)
        };
        if bytes.len() != entry.size {
            return Err(place("does not unpack to the size that it states"));
        }
        if crc32fast::hash(&bytes) != entry.checksum {
            return Err(place("does not have its checksum"));
        }
        Ok(bytes)
    }

    fn packed(&self, name: &str, entry: &Entry) -> Option<&'a [u8]> {
        let local = self.bytes.get(entry.offset..)?;
        if !local.starts_with(&LOCAL) {
            return None;
        }
        let (length, extra) = (short(local, 26).ok()?, short(local, 28).ok()?);
        let rest = local.get(LOCAL_LENGTH..)?;
        if rest.get(..length)? != name.as_bytes() {
            return None;
        }
        rest.get(length + extra..)?.get(..entry.packed)
    }
}

/// The record behind the directory.
fn end(bytes: &[u8]) -> Option<&[u8]> {
    let last = bytes.len().checked_sub(END_LENGTH)?;
    (last.saturating_sub(COMMENT_MAX)..=last).rev().map(|start| &bytes[start..]).find(|end| {
        let comment = short(end, END_LENGTH - 2);
        end.starts_with(&END) && comment.is_ok_and(|comment| comment + END_LENGTH == end.len())
    })
}

/// The first entry of a directory, and the rest of the directory.
fn central(directory: &[u8]) -> Result<(&str, Entry, &[u8]), Problem> {
    if !directory.starts_with(&CENTRAL) {
        return Err(Problem::malformed("the directory of the archive is shorter than it states"));
    }
    let length = short(directory, 28)?;
    let end = CENTRAL_LENGTH + length + short(directory, 30)? + short(directory, 32)?;
    let cut = || Problem::malformed("the directory of the archive is cut");
    let name = directory.get(CENTRAL_LENGTH..CENTRAL_LENGTH + length).ok_or_else(cut)?;
    let rest = directory.get(end..).ok_or_else(cut)?;
    let name = str::from_utf8(name).map_err(|_| Problem::malformed("the name of an entry is not UTF-8"))?;
    let seen = Seen::new(name);
    let is_path = name.starts_with('/') || name.split(['/', '\\']).any(|part| part == "..");
    if name.is_empty() || is_path || name.contains(['\\', '\0']) {
        return Err(Problem::malformed(format!("entry {seen} has a name that leaves the archive")));
    }
    if short(directory, 8)? & 1 == 1 {
        return Err(Problem::unsupported(format!("entry {seen}, which is encrypted,"), "do not encrypt it"));
    }
    let is_deflated = match short(directory, 10)? {
        0 => false,
        8 => true,
        method => {
            return Err(Problem::unsupported(
                format!("compression method {method} of entry {seen}"),
                "save it with compression ZIP_STORED or ZIP_DEFLATED",
            ));
        }
    };
    let entry = Entry {
        is_deflated,
        checksum: u32::try_from(long(directory, 16)?).unwrap_or_default(),
        packed: long(directory, 20)?,
        size: long(directory, 24)?,
        offset: long(directory, 42)?,
    };
    if !is_deflated && entry.packed != entry.size {
        return Err(Problem::malformed(format!("entry {seen} states two sizes")));
    }
    Limits::check("bytes of an entry", entry.size, u32::MAX as usize - 1)?;
    Ok((name, entry, rest))
}

/// A number of 16 bits.
fn short(bytes: &[u8], at: usize) -> Result<usize, Problem> {
    let number = bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes);
    number.map(usize::from).ok_or_else(|| Problem::malformed("the zip archive is cut"))
}

/// A number of 32 bits.
fn long(bytes: &[u8], at: usize) -> Result<usize, Problem> {
    let number = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    number.map(|number| number as usize).ok_or_else(|| Problem::malformed("the zip archive is cut"))
}
