//! A real file system in a file, mounted through a loop device.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Bytes of such a disk. XFS makes none that is smaller.
const BYTES: u64 = 300 << 20;

/// A disk that fills, that is pulled out, and that breaks.
pub struct Disk {
    pub mount: PathBuf,
    image: PathBuf,
}

/// Somebody who is ready to fill a disk.
pub struct Filler(Child);

impl Filler {
    /// Fills it, as far as there is room still.
    pub fn fill(mut self) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        self.0.wait().unwrap();
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl Disk {
    /// A new disk; none where this user or this machine may not have one, which is said.
    pub fn new(dir: &Path, system: &str) -> Option<Self> {
        let (mount, image) = (dir.join(format!("mount-{system}")), dir.join(format!("image-{system}")));
        std::fs::create_dir_all(&mount).unwrap();
        File::create(&image).unwrap().set_len(BYTES).unwrap();
        let disk = Self { mount, image };
        let made = succeeds(Command::new(format!("mkfs.{system}")).arg("-q").arg(&disk.image));
        if made && disk.plug_in() {
            return Some(disk);
        }
        airlock_testkit::skipped(&format!("a disk with {system}, because it cannot be made or mounted here"));
        None
    }

    /// One in memory, of the same size; none where this user may not have one, which is said. It is gone when it is pulled out.
    pub fn in_memory(dir: &Path) -> Option<Self> {
        let mount = dir.join("mount-tmpfs");
        std::fs::create_dir_all(&mount).unwrap();
        let size = format!("size={BYTES}");
        if succeeds(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&mount)) {
            return Some(Self { image: mount.clone(), mount });
        }
        airlock_testkit::skipped("a disk in memory, because it cannot be mounted here");
        None
    }

    /// Lets nobody write to it any more, or again.
    pub fn read_only(&self, is_read_only: bool) {
        let how = if is_read_only { "remount,ro" } else { "remount,rw" };
        assert!(succeeds(Command::new("mount").args(["-o", how]).arg(&self.mount)));
    }

    /// Mounts it; whether that is possible here.
    pub fn plug_in(&self) -> bool {
        succeeds(Command::new("mount").args(["-o", "loop"]).args([&self.image, &self.mount]))
    }

    /// Takes it away from whoever uses it. What is open stays open, and everything else is gone.
    pub fn pull_out(&self) {
        assert!(succeeds(Command::new("umount").arg("-l").arg(&self.mount)));
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let stat = Command::new("df").args(["--output=avail", "-k"]).arg(&self.mount).output().unwrap();
        let text = String::from_utf8(stat.stdout).unwrap();
        text.lines().nth(1).unwrap().trim().parse::<u64>().unwrap() << 10
    }

    /// Leaves only so many bytes free.
    pub fn fill(&self, keep: u64) {
        let file = File::create(self.filler()).unwrap();
        let piece = vec![1_u8; 1 << 20];
        let mut at = 0;
        while self.free() > keep {
            let bytes = usize::try_from((self.free() - keep).min(1 << 20)).unwrap();
            if file.write_all_at(&piece[..bytes], at).and_then(|()| file.sync_all()).is_err() {
                return;
            }
            at += bytes as u64;
        }
    }

    /// Somebody who is ready to leave only so many of the bytes that are free now, in one step, while something else writes.
    pub fn filler_at_hand(&self, keep: u64) -> Filler {
        let bytes = self.free().saturating_sub(keep).to_string();
        let mut shell = Command::new("sh");
        shell.args(["-c", "read go; exec fallocate -l \"$0\" \"$1\"", &bytes]).arg(self.filler());
        Filler(shell.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Frees it again.
    pub fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.mount.join("filler")
    }

    /// Breaks everything behind the first so many bytes; gives back what makes it whole.
    pub fn break_down(&self, behind: u64) -> PathBuf {
        assert!(succeeds(Command::new("sync").arg("-f").arg(&self.mount)));
        let whole = self.image.with_extension("whole");
        assert!(succeeds(Command::new("cp").arg("--sparse=always").args([&self.image, &whole])));
        std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
        File::options().write(true).open(&self.image).unwrap().set_len(behind).unwrap();
        whole
    }

    /// Makes it whole again.
    pub fn mend(&self, whole: &Path) {
        self.pull_out();
        std::fs::rename(whole, &self.image).unwrap();
        assert!(self.plug_in());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = succeeds(Command::new("umount").arg("-l").arg(&self.mount));
    }
}
