//! Parameters of a query or of a form-urlencoded body, read as OAuth wants them.

use url::form_urlencoded;

/// Decoded name-value pairs, in order.
pub(super) struct Params(Vec<(String, String)>);

/// A parameter occurs more than once, which RFC 6749 §3.1 and §3.2 forbid.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repeated;

impl Params {
    pub(super) fn parse(encoded: &[u8]) -> Self {
        Self(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// The one value of `name`. An empty value counts as left out (RFC 6749 §3.1).
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Repeated> {
        let mut values = self.iter().filter(|(key, _)| *key == name).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Repeated),
            (value, None) => Ok(value.filter(|text| !text.is_empty())),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_counts_once_and_an_empty_one_not_at_all() {
        let params = Params::parse(b"a=1&b=&c=x%20y+z&d=1&d=2");
        assert_eq!(params.one("a"), Ok(Some("1")));
        assert_eq!(params.one("b"), Ok(None));
        assert_eq!(params.one("c"), Ok(Some("x y z")));
        assert_eq!(params.one("d"), Err(Repeated));
        assert_eq!(params.one("e"), Ok(None));
    }
}
