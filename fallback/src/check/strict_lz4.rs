//! A plain reader of LZ4 blocks, byte by byte.

/// The `len` bytes that the block `src` holds, or what is wrong with it.
pub fn decode_lz4(src: &[u8], len: usize) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::with_capacity(len);
    let mut src = src.iter().copied();
    loop {
        let token = src.next().ok_or("ends before a token")?;
        let literals = count(token >> 4, &mut src)?;
        if literals > src.len() {
            return Err("ends within literals");
        }
        if literals > len - out.len() {
            return Err("literals do not fit");
        }
        out.extend(src.by_ref().take(literals));
        // A block ends after literals and nowhere else.
        if src.len() == 0 {
            return if out.len() == len { Ok(out) } else { Err("too short") };
        }
        let low = src.next().ok_or("ends within an offset")?;
        let high = src.next().ok_or("ends within an offset")?;
        let offset = usize::from(u16::from_le_bytes([low, high]));
        let matched = 4 + count(token & 15, &mut src)?;
        if offset == 0 || offset > out.len() {
            return Err("offset outside of the output");
        }
        if matched > len - out.len() {
            return Err("match does not fit");
        }
        for _ in 0..matched {
            out.push(out[out.len() - offset]);
        }
    }
}

/// A number that begins in four bits and goes on in bytes while they are full.
fn count(nibble: u8, src: &mut impl Iterator<Item = u8>) -> Result<usize, &'static str> {
    let mut sum = usize::from(nibble);
    if nibble == 15 {
        loop {
            let more = src.next().ok_or("ends within a length")?;
            sum += usize::from(more);
            if more != 255 {
                break;
            }
        }
    }
    Ok(sum)
}
