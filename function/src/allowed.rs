//! What a function may touch: what lies under the prefixes it was deployed with, and nothing else, whatever a call says. Its
//! role says so, too; this says it in words, and before anything is read.

use pipeline::{Error, Result};

/// The prefixes.
#[derive(Clone, Debug)]
pub(crate) struct Allowed {
    inputs: Vec<Place>,
    outputs: Vec<Place>,
    /// Schemes that are not asked for a prefix, such as `file`; none on AWS.
    schemes: Vec<String>,
}

/// A URL taken apart: what is compared is whole names, never letters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    scheme: String,
    /// The bucket, then the path.
    names: Vec<String>,
}

impl Place {
    fn of(url: &str) -> Result<Self> {
        let refused = |why: &str| Error::invalid(format!("the function does not take {url}: {why}"));
        let (scheme, rest) = url.split_once("://").unwrap_or(("file", url));
        if rest.contains(['?', '#', '@', '\\']) || rest.chars().any(char::is_control) {
            return Err(refused("it has characters in it that no prefix has"));
        }
        let names: Vec<&str> = rest.split('/').filter(|name| !name.is_empty()).collect();
        if names.iter().any(|name| leads_elsewhere(name)) {
            return Err(refused("it has `.`, `..` or a slash for a name"));
        }
        let scheme = if scheme.eq_ignore_ascii_case("https") { "http".into() } else { scheme.to_ascii_lowercase() };
        Ok(Self { scheme, names: names.into_iter().map(str::to_owned).collect() })
    }

    fn holds(&self, other: &Self) -> bool {
        self.scheme == other.scheme && other.names.starts_with(&self.names)
    }
}

/// Whether a name is `.` or `..`, or has a slash in it, however often it was escaped.
fn leads_elsewhere(name: &str) -> bool {
    let mut name = name.to_ascii_lowercase();
    loop {
        if name == "." || name == ".." || name.contains(['/', '\\']) {
            return true;
        }
        let plain = name.replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\").replace("%25", "%");
        if plain == name {
            return false;
        }
        name = plain;
    }
}

impl Allowed {
    /// What is below `inputs` may be read, what is below `outputs` read and written, what is of `schemes` both.
    ///
    /// # Errors
    /// Invalid when nothing would be allowed, or a prefix names no bucket.
    pub(crate) fn new(inputs: &[String], outputs: &[String], schemes: &[String]) -> Result<Self> {
        let places = |name: &str, urls: &[String]| -> Result<Vec<Place>> {
            let places: Vec<Place> = urls.iter().map(|url| Place::of(url)).collect::<Result<_>>()?;
            match places.iter().position(|place| place.names.is_empty()) {
                Some(at) => {
                    Err(Error::invalid(format!("the function's {name} has {}, which names no bucket", urls[at])))
                }
                None => Ok(places),
            }
        };
        let (inputs, outputs) = (places("VOXMILL_INPUTS", inputs)?, places("VOXMILL_OUTPUTS", outputs)?);
        let schemes: Vec<String> =
            schemes.iter().map(|scheme| scheme.trim_end_matches("://").to_ascii_lowercase()).collect();
        if outputs.is_empty() && schemes.is_empty() {
            return Err(Error::invalid("the function's VOXMILL_OUTPUTS names no place that it may write to"));
        }
        Ok(Self { inputs, outputs, schemes })
    }

    /// Whether a URL may be read.
    ///
    /// # Errors
    /// Invalid when it may not.
    pub(crate) fn check_read(&self, url: &str) -> Result<()> {
        self.check(url, "read", self.inputs.iter().chain(&self.outputs), "input prefixes")
    }

    /// Whether a run may be written below a URL.
    ///
    /// # Errors
    /// Invalid when it may not.
    pub(crate) fn check_write(&self, url: &str) -> Result<()> {
        self.check(url, "write to", self.outputs.iter(), "output prefixes")
    }

    fn check<'a>(
        &self,
        url: &str,
        verb: &str,
        mut prefixes: impl Iterator<Item = &'a Place>,
        parameter: &str,
    ) -> Result<()> {
        let place = Place::of(url)?;
        if self.schemes.contains(&place.scheme) || prefixes.any(|prefix| prefix.holds(&place)) {
            return Ok(());
        }
        let error = Error::invalid(format!("the function may not {verb} {url}"));
        Err(match place.scheme.as_str() {
            "file" => error.hint("a function sees no disk of yours: name a place in a bucket, s3://BUCKET/PATH"),
            "http" => error.hint("copy it to a bucket first, or deploy the function with AllowHttp"),
            _ => error.hint(format!("deploy it with this among its {parameter}, or choose a place below one of them")),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn allowed(schemes: &[&str]) -> Allowed {
        let list = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<String>>();
        Allowed::new(&list(&["s3://lab/scans/", "s3://open"]), &list(&["s3://lab/out"]), &list(schemes)).unwrap()
    }

    #[test]
    fn whole_names_are_compared() {
        let allowed = allowed(&[]);
        for url in ["s3://lab/scans", "s3://lab/scans/a.zarr", "S3://lab//scans/a", "s3://open/x", "s3://lab/out/x"] {
            allowed.check_read(url).unwrap();
        }
        for url in [
            "s3://lab",
            "s3://lab2/scans/a",
            "s3://lab/scans2/a",
            "s3://lab/scan",
            "s3://lab/scans/../secret",
            "s3://lab/scans/%2e%2e/secret",
            "s3://lab/scans/%2E%2E/secret",
            "s3://lab/scans/%252e%252e/secret",
            "s3://lab/scans/..%2fsecret",
            "s3://lab/scans/./a",
            "s3://lab/scans\\..\\secret",
            "s3://lab@elsewhere/scans",
            "s3://lab/scans?versionId=1",
            "s3://",
            "gs://lab/scans/a",
            "file:///etc/passwd",
            "/etc/passwd",
            "relative/path",
            "http://169.254.169.254/latest/meta-data",
            "https://lab/scans/a",
        ] {
            assert!(allowed.check_read(url).is_err(), "{url}");
        }
    }

    #[test]
    fn what_is_read_is_not_written() {
        let allowed = allowed(&[]);
        allowed.check_write("s3://lab/out/run-1").unwrap();
        for url in ["s3://lab/scans/a", "s3://open/a", "s3://lab/output", "s3://lab/out/../scans"] {
            assert!(allowed.check_write(url).is_err(), "{url}");
        }
    }

    #[test]
    fn other_schemes_are_allowed_by_name() {
        let (none, files) = (allowed(&[]), allowed(&["file"]));
        assert!(none.check_write("/tmp/out").unwrap_err().hint.unwrap().contains("s3://"));
        files.check_write("/tmp/out").unwrap();
        files.check_read("file:///data/a.zarr").unwrap();
        assert!(files.check_read("http://localhost/a").is_err());
        allowed(&["http"]).check_read("https://localhost/a").unwrap();
        assert!(files.check_read("/data/../etc").is_err());
    }

    #[test]
    fn a_function_that_may_write_nowhere_is_a_mistake() {
        assert!(Allowed::new(&["s3://lab".into()], &[], &[]).is_err());
        assert!(Allowed::new(&[], &["s3://".into()], &[]).is_err());
        assert!(Allowed::new(&[], &[], &["file".into()]).is_ok());
    }
}
