"""What people look at afterwards: self-contained HTML pages, and the gallery in Markdown."""
