//! Percent-encoding, as subjects and queries have it.

/// What stands in a token of a subject as it is, beside letters and digits.
pub const IN_TOKENS: &[u8] = b"-_";

/// Encodes every byte but letters, digits and `plain`, in upper case.
#[must_use]
pub fn percent(text: &str, plain: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(byte.into());
        } else {
            let digit = |nibble: u8| char::from(HEX[usize::from(nibble)]);
            out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_letters_digits_and_what_is_plain_is_encoded() {
        assert_eq!(percent("orders.>,a&b=ü", b"-_.~"), "orders.%3E%2Ca%26b%3D%C3%BC");
        assert_eq!(percent("alice_1@example-a.com", IN_TOKENS), "alice_1%40example-a%2Ecom");
    }
}
