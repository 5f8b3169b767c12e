//! Links between documents.
//!
//! *Invariant:* every relative link of a tracked Markdown file leads to a tracked file or
//! folder, and its `#fragment` to a heading that exists there.

use crate::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".md") {
        for (line, target) in links(text) {
            if let Some(fault) = fault(tree, path, target) {
                findings.push(format!("{path}:{line}: link `{target}`: {fault}"));
            }
        }
    }
    findings
}

/// Line number and target of every inline link outside code blocks and code spans.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for (index, part) in line.split('`').enumerate() {
            // odd parts are code spans; a link text may hold one, so `](` is looked for in even parts
            if index % 2 == 0 {
                found.extend(
                    part.split("](")
                        .skip(1)
                        .filter_map(|rest| Some((number, rest.split_once(')')?.0))),
                );
            }
        }
    }
    found
}

fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

fn fault(tree: &Tree, from: &str, target: &str) -> Option<&'static str> {
    let target = target
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .trim_matches(['<', '>']);
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, fragment) = target
        .split_once('#')
        .map_or((target, None), |(file, fragment)| (file, Some(fragment)));
    let Some(path) = resolve(from, file) else {
        return Some("leads out of the repository");
    };
    if !tree.holds(&path) {
        return Some("nothing there");
    }
    let headings = tree.text(&path).filter(|_| path.ends_with(".md"))?;
    let known = fragment.is_none_or(|fragment| anchors(headings).any(|anchor| anchor == fragment));
    (!known).then_some("no such heading")
}

/// `file` as seen from the folder of `from`; an empty `file` is `from` itself.
fn resolve(from: &str, file: &str) -> Option<String> {
    if file.is_empty() {
        return Some(from.to_owned());
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Anchors as the usual Markdown hosts make them from headings.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            heading
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        check(&Tree::of(&[
            ("docs/A.md", text),
            ("README.md", "# The Title: one\n"),
            ("docs/adr/1.md", ""),
        ]))
        .len()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        assert_eq!(
            findings(
                "[a](../README.md) [`b`](adr/) [c](../README.md#the-title-one) [d](https://example.org/x) [e](#f)\n## F"
            ),
            0
        );
    }

    #[test]
    fn links_that_lead_nowhere_fail() {
        assert_eq!(
            findings("[a](B.md) [b](../../x) [c](#g) [d](../README.md#two)"),
            4
        );
    }

    #[test]
    fn code_is_not_a_link() {
        assert_eq!(findings("`[a](B.md)`\n```\n[a](B.md)\n```"), 0);
    }
}
