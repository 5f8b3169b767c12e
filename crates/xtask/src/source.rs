//! Sizes of files and functions, and the reasons behind every allowed lint.
//!
//! *Invariant:* a figure in [`RATCHET`] only ever falls; a function that has shrunk below
//! its figure must take the lower one or leave the list.

use crate::lexer::code_only;
use crate::tree::Tree;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that were longer than the limit when it came: path, name, lines.
const RATCHET: &[(&str, &str, usize)] = &[];

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    tree.ending(".rs")
        .flat_map(|(path, text)| check_file(path, text))
        .collect()
}

fn check_file(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(format!(
            "{path}: {lines} lines; split it by reason to change ({FILE_LINES_MAX} at most)"
        ));
    }
    let code = code_only(text);
    findings.extend(
        functions(&code)
            .into_iter()
            .filter_map(|function| judge(path, &function)),
    );
    findings.extend(
        allows_without_reason(text, &code)
            .map(|line| format!("{path}:{line}: an allowed lint without its reason beside it")),
    );
    findings
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

fn judge(path: &str, function: &Function) -> Option<String> {
    let Function { name, line, lines } = function;
    let ratchet = RATCHET
        .iter()
        .find(|(file, known, _)| *file == path && known == name);
    match ratchet {
        Some((_, _, allowed)) if lines < allowed => Some(format!(
            "{path}:{line}: `{name}` has shrunk to {lines} lines: lower its figure in RATCHET from {allowed}"
        )),
        Some((_, _, allowed)) if lines == allowed => None,
        _ if *lines > FUNCTION_LINES_MAX => Some(format!(
            "{path}:{line}: `{name}` has {lines} lines ({FUNCTION_LINES_MAX} at most)"
        )),
        _ => None,
    }
}

/// Every function with a body, from the line of `fn` to that of its closing brace.
fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let starts_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let name: String = code[at + 3..]
            .trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        if !starts_word || name.is_empty() {
            continue;
        }
        if let Some(end) = body_end(&code[at..]) {
            let line = 1 + code[..at].matches('\n').count();
            let lines = 1 + code[at..at + end].matches('\n').count();
            found.push(Function { name, line, lines });
        }
    }
    found
}

/// Offset behind the closing brace of the first body; none where a `;` ends the item first.
fn body_end(code: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut brackets = 0usize;
    for (at, c) in code.char_indices() {
        match c {
            '[' | '(' => brackets += 1,
            ']' | ')' => brackets = brackets.saturating_sub(1),
            // the `;` of an array type `[u8; 4]` stands inside brackets
            ';' if depth == 0 && brackets == 0 => return None,
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Lines with an `allow` whose reason is neither in the attribute, nor behind it, nor above it.
fn allows_without_reason<'t>(text: &'t str, code: &'t str) -> impl Iterator<Item = usize> + 't {
    let lines: Vec<&str> = text.lines().collect();
    let is_allow = |line: &str| line.contains("#[allow(") || line.contains("#![allow(");
    code.lines()
        .enumerate()
        .filter(move |(_, line)| is_allow(line))
        .filter_map(move |(index, _)| {
            let above = index
                .checked_sub(1)
                .and_then(|above| lines.get(above))
                .is_some_and(|line| is_plain_comment(line));
            let attribute_end = lines[index..]
                .iter()
                .position(|line| line.contains(")]"))
                .map_or(index, |end| index + end);
            let inside = lines[index..=attribute_end]
                .iter()
                .any(|line| line.contains("reason =") || line.contains("//"));
            (!above && !inside).then_some(index + 1)
        })
}

/// A comment about the line below; a doc comment is about something else.
fn is_plain_comment(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("//") && !line.starts_with("///") && !line.starts_with("//!")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_and_a_long_function_are_found() {
        assert_eq!(check_file("a.rs", &"\n".repeat(801)).len(), 1);
        let body = format!(
            "fn f(a: [u8; 4]) -> usize {{\n{}}}\n",
            "    call();\n".repeat(69)
        );
        assert_eq!(check_file("a.rs", &body).len(), 1);
        let shorter = format!(
            "fn f(a: [u8; 4]) -> usize {{\n{}}}\n",
            "    call();\n".repeat(68)
        );
        assert!(check_file("a.rs", &shorter).is_empty());
    }

    #[test]
    fn a_signature_without_a_body_has_no_length() {
        let code = format!(
            "trait T {{ fn f(&self) -> [u8; 4]; {} fn g() {{}} }}",
            "\n".repeat(200)
        );
        assert!(check_file("a.rs", &code).is_empty());
    }

    #[test]
    fn an_allow_wants_a_reason() {
        assert_eq!(
            check_file("a.rs", "#[allow(dead_code)]\nstruct A;").len(),
            1
        );
        assert!(
            check_file(
                "a.rs",
                "#[allow(dead_code, reason = \"because\")]\nstruct A;"
            )
            .is_empty()
        );
        assert_eq!(
            check_file("a.rs", "//! About a.\n#![allow(dead_code)]").len(),
            1
        );
        assert!(check_file("a.rs", "#[allow(dead_code)] // because\nstruct A;").is_empty());
        assert!(check_file("a.rs", "// because\n#[allow(dead_code)]\nstruct A;").is_empty());
        assert!(
            check_file(
                "a.rs",
                "#[allow(\n    dead_code,\n    reason = \"because\"\n)]\nstruct A;"
            )
            .is_empty()
        );
    }
}
