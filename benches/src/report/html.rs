//! The page: escaping, tables, and the frame that holds style and script.
//!
//! Whatever comes from a file goes through [`escape`]. The page asks for nothing: no address stands in it, and its
//! policy forbids what might slip through.

use std::borrow::Cow;

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// Text as it may stand in an element or a quoted attribute; control characters are spelt out, except the ends of lines, which
/// what the pointer shows has.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    let control = |c: char| c.is_control() && c != '\n';
    let special = |c: char| matches!(c, '&' | '<' | '>' | '"' | '\'') || control(c);
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if control(c) => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// A table: columns of words first, then those of numbers.
pub(super) struct Table {
    html: String,
    words: usize,
    pub(super) rows: usize,
}

impl Table {
    pub(super) fn new(header: &[&str], words: usize) -> Self {
        let cells: String = (header.iter().enumerate())
            .map(|(place, title)| format!("<th{}>{}", number(place >= words), escape(title)))
            .collect();
        Self { html: format!("<div class=scroll><table><thead><tr>{cells}<tbody>"), words, rows: 0 }
    }

    pub(super) fn row(&mut self, cells: &[String]) {
        self.html.push_str("<tr>");
        for (place, cell) in cells.iter().enumerate() {
            let element = if place == 0 { "th scope=row" } else { "td" };
            self.html.push_str(&format!("<{element}{}>{}", number(place >= self.words), escape(cell)));
        }
        self.html.push('\n');
        self.rows += 1;
    }

    pub(super) fn end(self) -> String {
        self.html + "</table></div>\n"
    }
}

fn number(is: bool) -> &'static str {
    if is { " class=n" } else { "" }
}

/// A section with its title, what it says in a sentence or two, and its content.
pub(super) fn section(id: &str, title: &str, lead: &str, content: &str) -> String {
    format!(
        "<section id={id}><h2>{}</h2>\n<p class=lead>{}</p>\n{content}</section>\n",
        escape(title),
        escape(lead)
    )
}

/// Plots side by side, with a legend above where there is more than one colour, and a table.
pub(super) fn figure(title: &str, legend: &[(String, usize)], plots: &[String], table: &str) -> String {
    let entries: String = legend
        .iter()
        .map(|(label, colour)| format!("<span><i class=c{colour}></i>{}</span>", escape(label)))
        .collect();
    let legend =
        if entries.is_empty() { String::new() } else { format!("<div class=legend>{entries}</div>\n") };
    format!(
        "<figure><figcaption>{}</figcaption>\n{legend}<div class=plots>{}</div>\n{table}</figure>\n",
        escape(title),
        plots.concat()
    )
}

/// The whole file.
pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n\
         <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <meta name=color-scheme content=\"light dark\">\n<link rel=icon href=\"data:,\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
         <div id=tip hidden></div>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        escape(title)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_a_file_becomes_markup() {
        assert_eq!(escape("<b a='1' c=\"&\">"), "&lt;b a=&#39;1&#39; c=&quot;&amp;&quot;&gt;");
        assert_eq!(escape("a\u{1b}[0m\0"), "a\\u{1b}[0m\\u{0}");
        assert!(matches!(escape("plain ü"), Cow::Borrowed("plain ü")));
        let mut table = Table::new(&["<th>"], 1);
        table.row(&["</table><script>".to_owned()]);
        assert!(!table.end().contains("<script"));
    }

    /// All control characters were spelt out, the ends of lines too: under the pointer stood `159 k\n95 %: 158 k to 160 k`
    /// in one line, backslash and all.
    #[test]
    fn lines_stay_lines() {
        assert_eq!(escape("159 k\n95 %: 158 k\r"), "159 k\n95 %: 158 k\\r");
        assert_eq!(escape("a\n<b>"), "a\n&lt;b&gt;");
    }
}
