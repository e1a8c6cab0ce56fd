//! Lists the dashboard's files, so that the binary carries them: whatever stands under `dashboard/`, its tests excepted.

#![expect(clippy::disallowed_methods, reason = "cargo tells a build script through the environment where to write")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=dashboard");
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR")).join("dashboard");
    let mut files = Vec::new();
    list(&root, &mut files);
    files.sort();
    let mut code = String::from("/// Path, content type and content of each file.\nstatic EMBEDDED: &[(&str, &str, &[u8])] = &[\n");
    for file in &files {
        let name = file.strip_prefix(&root).expect("listed below the root").to_str().expect("a UTF-8 file name").replace('\\', "/");
        let content_type = content_type(file);
        let _ = writeln!(code, "    ({name:?}, {content_type:?}, include_bytes!({:?})),", file.display().to_string());
    }
    code.push_str("];\n");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    fs::write(Path::new(&out).join("dashboard.rs"), code).expect("OUT_DIR is writable");
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a readable directory entry").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests") {
                list(&path, files);
            }
        } else if path.extension().is_none_or(|extension| extension != "md") && !path.ends_with("package.json") {
            files.push(path);
        }
    }
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        _ => panic!("{}: build.rs does not know the content type of this file", path.display()),
    }
}
