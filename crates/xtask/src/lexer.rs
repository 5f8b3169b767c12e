//! Just enough of Rust's lexical grammar to tell code from comments and literals.
//!
//! *Invariant:* the result has the same number of lines as the input, and no character of
//! a comment, string or character literal survives in it.

/// `source` with comments, strings and character literals blanked out, line by line.
pub(crate) fn code_only(source: &str) -> String {
    let mut scanner = Scanner {
        rest: source,
        out: String::with_capacity(source.len()),
    };
    while !scanner.rest.is_empty() {
        scanner.step();
    }
    scanner.out
}

struct Scanner<'s> {
    rest: &'s str,
    out: String,
}

impl Scanner<'_> {
    fn step(&mut self) {
        let blank = line_comment(self.rest)
            .or_else(|| block_comment(self.rest))
            .or_else(|| raw_string(self.rest))
            .or_else(|| quoted(self.rest, '"'))
            .or_else(|| char_literal(self.rest));
        match blank {
            Some(length) => self.blank(length),
            None => self.keep(),
        }
    }

    /// A whole identifier at once, so that the `r` of `for"` does not start a raw string.
    fn keep(&mut self) {
        let word = self
            .rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(self.rest.len());
        let length = word.max(self.rest.chars().next().map_or(0, char::len_utf8));
        let (kept, rest) = self.rest.split_at(length);
        self.out.push_str(kept);
        self.rest = rest;
    }

    fn blank(&mut self, length: usize) {
        let (blanked, rest) = self.rest.split_at(length);
        self.out
            .extend(blanked.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        self.rest = rest;
    }
}

fn line_comment(rest: &str) -> Option<usize> {
    rest.starts_with("//")
        .then(|| rest.find('\n').unwrap_or(rest.len()))
}

/// Block comments nest in Rust.
fn block_comment(rest: &str) -> Option<usize> {
    rest.starts_with("/*").then_some(())?;
    let mut depth = 0usize;
    let mut at = 0;
    while at < rest.len() {
        let tail = &rest.as_bytes()[at..];
        if tail.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    Some(rest.len())
}

/// `r"…"`, `r#"…"#`, `br"…"` and so on.
fn raw_string(rest: &str) -> Option<usize> {
    let body = rest
        .strip_prefix("br")
        .or_else(|| rest.strip_prefix("cr"))
        .or_else(|| rest.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let text = body[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = text
        .find(&close)
        .map_or(text.len(), |end| end + close.len());
    Some(rest.len() - text.len() + end)
}

fn quoted(rest: &str, quote: char) -> Option<usize> {
    let mut characters = rest.char_indices();
    characters.next().filter(|(_, c)| *c == quote)?;
    let mut escaped = false;
    for (at, c) in characters {
        if !escaped && c == quote {
            return Some(at + c.len_utf8());
        }
        escaped = !escaped && c == '\\';
    }
    Some(rest.len())
}

/// `'x'` and `'\n'`, but not the lifetime `'a`.
fn char_literal(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let first = body.chars().next()?;
    if first == '\\' {
        return quoted(rest, '\'');
    }
    body[first.len_utf8()..]
        .starts_with('\'')
        .then_some(first.len_utf8() + 2)
}

#[cfg(test)]
mod tests {
    use super::code_only;

    #[test]
    fn literals_and_comments_vanish_and_lines_stay() {
        let source = "let a = \"} fn x() {\"; // fn y() {\n/* fn /* z */ ( */ let b = r#\"\"{\"#;\nlet c = '{'; let d = '\\''; fn f<'a>(e: &'a str) {}";
        let code = code_only(source);
        assert_eq!(code.lines().count(), 3);
        assert_eq!(code.matches('{').count(), 1);
        assert_eq!(code.matches("fn").count(), 1);
        assert!(code.contains("fn f<'a>(e: &'a str) {}"));
    }

    #[test]
    fn an_identifier_that_ends_in_r_does_not_start_a_raw_string() {
        assert_eq!(code_only("for\"x\"{}"), "for   {}");
        assert_eq!(code_only("b'\"' {"), "b    {");
    }
}
