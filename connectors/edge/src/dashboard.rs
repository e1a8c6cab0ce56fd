//! The dashboard: static files, embedded in the binary.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use pitwall_engine::hash::Digest;

include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// The page runs and loads nothing that does not come from here, whatever a feed writes into its texts.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
);

/// One file, and the tag that names its content.
#[derive(Debug)]
pub(crate) struct File {
    content_type: &'static str,
    content: &'static [u8],
    pub(crate) etag: String,
}

static FILES: LazyLock<BTreeMap<&'static str, File>> = LazyLock::new(|| {
    let file = |&(path, content_type, content): &(&'static str, &'static str, &'static [u8])| {
        (path, File { content_type, content, etag: format!("\"{}\"", Digest::of(content)) })
    };
    EMBEDDED.iter().map(file).collect()
});

/// The file at a URL's path.
pub(crate) fn file(path: &str) -> Option<&'static File> {
    let name = path.strip_prefix('/')?;
    FILES.get(if name.is_empty() { "index.html" } else { name })
}

impl File {
    pub(crate) fn answer(&self) -> Response<Full<Bytes>> {
        let mut answer = Response::new(Full::new(Bytes::from_static(self.content)));
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            headers.insert(ETAG, etag);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_asks_for_anything_from_elsewhere_and_the_policy_forbids_it() {
        for (path, content_type, content) in EMBEDDED {
            let is_page = content_type.starts_with("text/html") || content_type.starts_with("text/css");
            let text = String::from_utf8_lossy(content);
            assert!(!(is_page && (text.contains("//cdn") || text.contains("https://") || text.contains("<script>"))), "{path}");
        }
        let answer = file("/").unwrap().answer();
        assert!(answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none'"));
    }

    #[test]
    fn every_embedded_file_is_found_by_its_path_and_nothing_else_is() {
        for (path, content_type, content) in EMBEDDED {
            let file = file(&format!("/{path}")).unwrap();
            assert_eq!((file.content_type, file.content), (*content_type, *content), "{path}");
        }
        for path in ["", "/../Cargo.toml", "/nothing.js", "//index.html"] {
            assert!(file(path).is_none(), "{path}");
        }
    }
}
