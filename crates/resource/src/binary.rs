//! Recognizes binary files by their first bytes.

/// The likely kind of a file under `binaryData`, and what to do. kubectl stores files that are not UTF-8 there.
pub(crate) fn binary_kind(bytes: &[u8]) -> (&'static str, &'static str) {
    const KINDS: [(&[u8], &str, &str); 8] = [
        (b"\x1f\x8b", "compressed by gzip", "unpack it with gunzip"),
        (b"\xfd7zXZ\0", "compressed by xz", "unpack it with unxz"),
        (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it with unzstd"),
        (b"BZh", "compressed by bzip2", "unpack it with bunzip2"),
        (b"PK\x03\x04", "a zip archive or a workbook such as .xlsx", "export the table as CSV"),
        (b"PAR1", "a Parquet file", "write it as CSV"),
        (b"\xff\xfe", "text in UTF-16", "save it as UTF-8"),
        (b"\xfe\xff", "text in UTF-16", "save it as UTF-8"),
    ];
    let found = KINDS.iter().find(|(magic, _, _)| bytes.starts_with(magic));
    found.map_or(("binary, or text that is not UTF-8", "save it as UTF-8"), |&(_, kind, advice)| {
        (kind, advice)
    })
}
