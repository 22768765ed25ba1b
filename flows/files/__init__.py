"""Files that come in and files that are left behind: pictures, masks, JSON, and where a picture is from."""
