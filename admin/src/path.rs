//! Paths: patterns, and what Go's httprouter makes of paths that are nearly right.

/// A path with `{name}` standing for any one segment that is not empty.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    path: &'static str,
}

impl Pattern {
    pub(crate) const fn new(path: &'static str) -> Self {
        Self { path }
    }

    /// Whether `path` is exactly this.
    pub(crate) fn matches(&self, path: &str) -> bool {
        self.zip(path, |want, have| want == have).is_some()
    }

    /// The proper spelling of `path` if only letter case or a slash at the end is wrong.
    pub(crate) fn correct(&self, path: &str) -> Option<String> {
        let toggled = match path.strip_suffix('/') {
            Some(shorter) => shorter.to_owned(),
            None => format!("{path}/"),
        };
        [path, &toggled].iter().find_map(|path| self.zip(path, str::eq_ignore_ascii_case))
    }

    fn zip(&self, path: &str, same: impl Fn(&str, &str) -> bool) -> Option<String> {
        let mut corrected = Vec::new();
        let mut want = self.path.split('/');
        let mut have = path.split('/');
        loop {
            match (want.next(), have.next()) {
                (None, None) => return Some(corrected.join("/")),
                (Some(want), Some(have)) if want.starts_with('{') && !have.is_empty() => {
                    corrected.push(have);
                }
                (Some(want), Some(have)) if same(want, have) => corrected.push(want),
                (Some(_) | None, Some(_) | None) => return None,
            }
        }
    }
}

/// Removes empty segments, `.` and `..`, as httprouter's `CleanPath`; keeps a slash at the end.
pub(crate) fn clean(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let slash = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    let end = if slash && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_takes_one_segment_that_is_not_empty() {
        let config = Pattern::new("/config/{opt}");
        assert!(config.matches("/config/log_level"));
        assert!(config.matches("/config/a b"));
        for other in ["/config", "/config/", "/config/a/b", "/Config/a", "/"] {
            assert!(!config.matches(other), "{other}");
        }
        assert_eq!(config.correct("/CONFIG/Log/").as_deref(), Some("/config/Log"));
    }

    #[test]
    fn paths_are_cleaned_as_httprouter_does() {
        for (dirty, clean_path) in [
            ("/", "/"),
            ("//", "/"),
            ("/..", "/"),
            ("/topics//", "/topics/"),
            ("/a/../b", "/b"),
            ("/a/./b/..", "/a/"),
            ("//a///b", "/a/b"),
            ("", "/"),
        ] {
            assert_eq!(clean(dirty), clean_path, "{dirty}");
        }
    }
}
