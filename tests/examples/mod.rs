//! The programs of `docs/examples` as a consumer would run them. What they need and is missing is an error that says how to get it.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples")
}

/// A folder for what a language's own tools leave behind, kept from run to run.
fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Looks whether a program that an example needs is there.
fn needs(program: &str, argument: &str, remedy: &str) {
    let found = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(found.is_ok_and(|status| status.success()), "{program} is missing: {remedy}");
}

/// What a command that succeeds says.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}:\n{out}{error}");
    out.into_owned()
}

/// A shell script around kcat.
pub(crate) fn kcat(arguments: &[&str], environment: &[(&str, String)]) -> String {
    needs("kcat", "-V", "install kcat (Debian: apt-get install kcat)");
    let script = examples().join("kcat/count_facts.sh");
    said(Command::new("sh").arg(script).args(arguments).envs(environment.iter().cloned()))
}

/// One of the Python programs, in a virtual environment with what its `requirements.txt` names.
pub(crate) fn python(program: &str, environment: &[(&str, String)]) -> String {
    needs("python3", "--version", "install Python 3.9 or later (Debian: apt-get install python3 python3-venv)");
    let (folder, venv) = (examples().join("python"), kept("consuming-python"));
    let requirements = fs::read_to_string(folder.join("requirements.txt")).unwrap();
    let installed = venv.join("installed.txt");
    if fs::read_to_string(&installed).ok().as_ref() != Some(&requirements) {
        needs("python3", "-cimport ensurepip", "Python's venv is incomplete (Debian: apt-get install python3-venv)");
        said(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        said(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "--requirement"]).arg(folder.join("requirements.txt")));
        fs::write(installed, requirements).unwrap();
    }
    said(Command::new(venv.join("bin/python")).arg(folder.join(program)).envs(environment.iter().cloned()))
}

/// A Java program, built and started by Maven in a copy of its project.
pub(crate) fn java(environment: &[(&str, String)]) -> String {
    needs("java", "-version", "install Java 17 or later (Debian: apt-get install openjdk-17-jdk-headless)");
    needs("javac", "-version", "install a JDK 17 or later (Debian: apt-get install openjdk-17-jdk-headless)");
    needs("mvn", "--version", "install Maven 3 (Debian: apt-get install maven)");
    let (from, project) = (examples().join("java"), kept("consuming-java"));
    for file in ["pom.xml", "src/main/java/ReadSession.java"] {
        fs::create_dir_all(project.join(file).parent().unwrap()).unwrap();
        fs::copy(from.join(file), project.join(file)).unwrap();
    }
    let arguments = ["--quiet", "--batch-mode", "-Dstyle.color=never", "compile", "exec:java"];
    let out = said(Command::new("mvn").arg("--file").arg(&project).args(arguments).envs(environment.iter().cloned()));
    // Maven resets the terminal's colours whatever it is told.
    out.replace("\u{1b}[0m", "")
}
