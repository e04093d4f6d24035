use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::Sha256;

use crate::Token;

impl Token {
    /// Signs a token for each request (HS256) with the secret that the client `kid` shares
    /// with the server.
    ///
    /// ```
    /// # use accessor_client::{from_hex, Client, Options, Token};
    /// let secret = from_hex(&"a1".repeat(32)).unwrap();
    /// let options = Options { token: Some(Token::signed("auditor", &secret)), ..Options::default() };
    /// let client = Client::with("http://127.0.0.1:8420", options)?;
    /// # Ok::<(), accessor_client::Error>(())
    /// ```
    pub fn signed(kid: &str, secret: &[u8]) -> Self {
        let header = base64url(json!({"alg": "HS256", "kid": kid}).to_string().as_bytes());
        let mac = Hmac::<Sha256>::new_from_slice(secret);
        Token::from_fn(move || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
            let claims = base64url(json!({ "iat": now.as_secs() }).to_string().as_bytes());
            let mut mac = mac.clone().map_err(|error| error.to_string())?;
            mac.update(format!("{header}.{claims}").as_bytes());
            Ok(format!("{header}.{claims}.{}", base64url(&mac.finalize().into_bytes())))
        })
    }
}

/// Base64 for addresses, without padding.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for i in 0..=group.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * i) & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64url;

    #[test]
    fn base64() {
        for (bytes, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("\u{7ff}~?", "379-Pw")]
        {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
    }
}
