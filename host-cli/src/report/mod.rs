//! One verdict rendered as text, JSON and Markdown.
