//! How much a tree of files holds.

use crate::descent::{Descent, open_again};
use crate::quote::quote;
use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::os::fd::BorrowedFd;

/// Why a tree could not be measured.
#[derive(Debug, thiserror::Error)]
#[error("cannot measure `{path}`")]
pub struct MeasureError {
    /// Seen from the top of the tree, which is `.`.
    path: String,
    #[source]
    source: std::io::Error,
}

/// Sums up the sizes in bytes of all regular files below the open folder `tree`, each inode once however many
/// names it has.
///
/// No link is followed and what is mounted below is left out; entries that vanish meanwhile do not count.
pub fn measure_tree(tree: BorrowedFd<'_>) -> Result<u64, MeasureError> {
    let failed = |path: &[u8], errno: Errno| MeasureError {
        path: quote(&String::from_utf8_lossy(path)),
        source: errno.into(),
    };
    let mut descent = open_again(tree)
        .and_then(|top| Descent::new(top, c".".into()))
        .map_err(|errno| failed(b".", errno))?;
    let mut linked = HashSet::new();
    let mut size: u64 = 0;
    loop {
        let Some(entry) = descent
            .next_entry()
            .map_err(|errno| failed(&descent.path(None), errno))?
        else {
            match descent
                .leave()
                .map_err(|errno| failed(&descent.path(None), errno))?
            {
                Some(_) => continue,
                None => return Ok(size),
            }
        };
        if !matches!(
            entry.file_type,
            FileType::Directory | FileType::RegularFile | FileType::Unknown
        ) {
            continue;
        }
        if entry.file_type != FileType::Directory {
            match statat(
                descent.current(),
                &entry.name,
                AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
            ) {
                Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => {
                        if stat.st_nlink == 1 || linked.insert((stat.st_dev, stat.st_ino)) {
                            size = size.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
                        }
                        continue;
                    }
                    FileType::Directory => {}
                    _ => continue,
                },
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(failed(&descent.path(Some(&entry.name)), errno)),
            }
        }
        match descent.enter(entry.name.clone()) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {}
            Err(errno) => return Err(failed(&descent.path(Some(&entry.name)), errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn regular_files_count_once_and_links_not_at_all() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), [0; 5000]).unwrap();
        let tree = outer.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("one"), [0; 100]).unwrap();
        fs::write(tree.join("a/two"), [0; 20]).unwrap();
        fs::hard_link(tree.join("one"), tree.join("a/b/again")).unwrap();
        symlink("../secret", tree.join("link")).unwrap();
        symlink("..", tree.join("up")).unwrap();
        assert_eq!(
            measure_tree(File::open(&tree).unwrap().as_fd()).unwrap(),
            120
        );
    }

    #[test]
    fn wide_folders_on_a_deep_way_are_counted_exactly_once() {
        let tree = tempfile::tempdir().unwrap();
        let mut folder = tree.path().to_path_buf();
        for _ in 0..100 {
            for i in 0..20 {
                fs::write(folder.join(format!("file{i}")), b"x").unwrap();
                fs::create_dir(folder.join(format!("folder{i}"))).unwrap();
            }
            folder.push("folder7");
        }
        let top = File::open(tree.path()).unwrap();
        assert_eq!(measure_tree(top.as_fd()).unwrap(), 2000);
        assert_eq!(
            measure_tree(top.as_fd()).unwrap(),
            2000,
            "a second measure starts anew"
        );
    }
}
