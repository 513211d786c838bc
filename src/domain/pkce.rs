//! Proof Key for Code Exchange (RFC 7636), S256 only.

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};

use super::secret::CodeVerifier;

impl CodeVerifier {
    /// A verifier of 256 random bits: 43 characters (RFC 7636 §4.1 recommends just this).
    pub fn from_random(random: [u8; 32]) -> Self {
        Self::new(BASE64URL_NOPAD.encode(&random))
    }

    /// The challenge that goes into the authorization URL: base64url(SHA-256(verifier)), RFC 7636 §4.2.
    pub fn challenge(&self) -> CodeChallenge {
        CodeChallenge(BASE64URL_NOPAD.encode(&Sha256::digest(self.expose().as_bytes())))
    }
}

/// An S256 code challenge (RFC 7636 §4.2). Public: it goes through the browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeChallenge(String);

impl CodeChallenge {
    /// The value of `code_challenge`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636 appendix B.
    #[test]
    fn the_rfc_example() {
        let random = [
            116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186, 22, 212, 37, 77, 105,
            214, 191, 240, 91, 88, 5, 88, 83, 132, 141, 121,
        ];
        let verifier = CodeVerifier::from_random(random);
        assert_eq!(verifier.expose(), "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(verifier.challenge().as_str(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
