//! Writes zip archives of stored entries.

/// An archive of these entries.
pub(crate) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for (name, content) in entries {
        let offset = u32::try_from(bytes.len()).unwrap();
        let length = u32::try_from(content.len()).unwrap().to_le_bytes();
        let name_length = u16::try_from(name.len()).unwrap().to_le_bytes();
        // The version, flags, method, time and date; then the checksum, the sizes, and the lengths of name and extra.
        let checksum = checksum(content).to_le_bytes();
        let both = [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &checksum, &length, &length, &name_length, &[0, 0]]
            .concat();
        directory.extend(
            [b"PK\x01\x02\x14\0", &both[..], &[0; 10], &offset.to_le_bytes(), name.as_bytes()].concat(),
        );
        bytes.extend([b"PK\x03\x04", &both[..], name.as_bytes(), content].concat());
    }
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    let [start, size] =
        [bytes.len(), directory.len()].map(|number| u32::try_from(number).unwrap().to_le_bytes());
    [&bytes[..], &directory, b"PK\x05\x06\0\0\0\0", &count, &count, &size, &start, &[0, 0]].concat()
}

fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(sum & 1)))
    })
}
