/// True if `text` is a subject that may have wildcards: tokens without white space, none empty, `>` only last.
pub(crate) fn is_filter(text: &str) -> bool {
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        let is_last = tokens.peek().is_none();
        if token.is_empty() || token.contains(char::is_whitespace) || (token == ">" && !is_last) {
            return false;
        }
    }
    true
}
