use serde_json::Value;

/// Keys and types of a page, one `path type` each, in order; elements of a list are laid over each other.
pub(crate) fn shape(page: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    walk("", page, &mut lines);
    lines
}

fn walk(path: &str, value: &Value, lines: &mut Vec<String>) {
    let line = format!("{path} {}", type_of(value));
    if !path.is_empty() && !lines.contains(&line) {
        lines.push(line);
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(&path, value, lines);
            }
        }
        Value::Array(list) => list.iter().for_each(|v| walk(&format!("{path}[]"), v, lines)),
        _ => {}
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
