//! What this binary was built from.
/// s
pub fn log_line() -> String {
    String::new()
}
/// s
pub fn build() -> String {
    String::new()
}
