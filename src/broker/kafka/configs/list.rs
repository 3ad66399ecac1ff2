//! Settings that are lists: their items stand in one text, with commas between.

/// The list with further items; those that it has stay where they are.
pub fn append(list: &str, added: &str) -> String {
    let mut items = items(list);
    for item in self::items(added) {
        if !items.contains(&item) {
            items.push(item);
        }
    }
    items.join(",")
}

/// The list without some items.
pub fn subtract(list: &str, removed: &str) -> String {
    let removed = items(removed);
    let mut items = items(list);
    items.retain(|item| !removed.contains(item));
    items.join(",")
}

fn items(list: &str) -> Vec<&str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_once_and_go() {
        assert_eq!(append("delete", "compact"), "delete,compact");
        assert_eq!(append("delete", " delete, compact,"), "delete,compact");
        assert_eq!(append("", "compact"), "compact");
        assert_eq!(subtract("compact, delete", "delete"), "compact");
        assert_eq!(subtract("compact", "delete"), "compact");
        assert_eq!(subtract("compact", "compact"), "");
    }
}
