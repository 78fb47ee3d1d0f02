use proptest::prelude::*;

use super::*;

/// What a file of a list is made of: its name, how its path deviates from what follows, what it hashes, size and volume.
type Made = (String, Option<Path>, u8, u64, Option<u32>);

#[derive(Clone, Debug)]
enum Path {
    Any(String),
    /// That of another name or content, in capitals, or of a part.
    Of(u8, bool, Option<u64>),
}

fn made() -> impl Strategy<Value = Vec<Made>> {
    let name = "[a-cé]{0,3}(\\.whl|\\.conda|)";
    let path = "files/(0a/0a|AB/AB|ab/ab)[ab0]{29,31}(\\.whl|\\.age|)(\\.00[12]|)|[a-cA./]{0,6}";
    let of = (0u8..4, any::<bool>(), proptest::option::of(1u64..4));
    let path =
        prop_oneof![path.prop_map(Path::Any), of.prop_map(|(of, upper, part)| Path::Of(of, upper, part))];
    let one = (name, proptest::option::of(path), 0u8..4, any::<u64>(), proptest::option::of(1u32..4));
    proptest::collection::vec(one, 0..12)
}

fn file((name, path, seed, size, volume): &Made) -> BundledFile<'_> {
    let sha256 = Digest::of(&[*seed]);
    let path = match path {
        None => FilePath::of(sha256, name),
        Some(Path::Any(path)) => path.as_str().into(),
        Some(Path::Of(of, is_upper, part)) => {
            let path = FilePath::of(Digest::of(&[*of]), name);
            let path = part.map_or(path.clone(), |part| path.part(part));
            let text = path.to_string();
            if *is_upper {
                text.to_ascii_uppercase().replace("FILES/", "files/").as_str().into()
            } else {
                path
            }
        }
    };
    BundledFile { name: name.into(), path, sha256, size: *size, volume: *volume }
}

/// Another file in the place of this one.
fn changed(seed: u8, file: BundledFile<'_>) -> BundledFile<'_> {
    let sha256 = Digest::of(&[seed, 2]);
    let path = if file.size.is_multiple_of(2) { FilePath::of(sha256, &file.name) } else { file.path.part(3) };
    let name = if file.size.is_multiple_of(3) { "renamed.whl".into() } else { file.name };
    BundledFile { name, path, sha256, size: file.size / 2, volume: file.volume }
}

proptest! {
    #[test]
    fn files_are_given_back_as_they_were_listed(made in made()) {
        let list: Vec<BundledFile<'_>> = made.iter().map(file).collect();
        let files = Files::of(list.iter().cloned()).unwrap();
        prop_assert_eq!(files.iter().collect::<Vec<_>>(), list.clone());
        prop_assert_eq!((files.len(), files.is_empty()), (list.len(), list.is_empty()));
        for (place, one) in list.iter().enumerate() {
            prop_assert_eq!(files.get(place), Some(one.clone()));
            prop_assert_eq!((files.sha256(place), files.size(place)), (Some(one.sha256), one.size));
            let rest: Vec<_> = files.at(place..list.len()).unwrap().collect();
            prop_assert_eq!(&rest[..], &list[place..]);
        }
        prop_assert!(files.get(list.len()).is_none() && files.at(0..list.len() + 1).is_none());
        let text = serde_json::to_string(&files).unwrap();
        prop_assert_eq!(&text, &serde_json::to_string(&list).unwrap());
        // Each has a comma behind it.
        let lines = if list.is_empty() { 0 } else { text.len() as u64 - 1 };
        prop_assert!(files.fit(lines) && (list.is_empty() || !files.fit(lines - 1)));
        prop_assert_eq!(serde_json::from_str::<Files>(&text).unwrap(), files);
    }

    #[test]
    fn what_changes_of_a_file_leaves_all_else_as_it_was(made in made(), at in 0usize..12, seed in 0u8..20) {
        let mut list: Vec<BundledFile<'_>> = made.iter().map(file).collect();
        let mut files = Files::of(list.iter().cloned()).unwrap();
        let sha256 = Digest::of(&[seed, 1]);
        files.set_sha256(at, sha256).unwrap();
        files.set_size(at, 7);
        if let Some(one) = list.get_mut(at) {
            (one.sha256, one.size) = (sha256, 7);
        }
        prop_assert_eq!(files.iter().collect::<Vec<_>>(), list.clone());
        files.set_volumes((1..).take(list.len()));
        prop_assert!((1..).zip(files.iter()).all(|(number, file)| file.volume == Some(number)));
    }

    #[test]
    fn all_of_them_change_as_one_by_one(made in made(), seed in 0u8..20) {
        let list: Vec<BundledFile<'_>> = made.iter().map(file).collect();
        let files = Files::of(list.iter().cloned()).unwrap();
        let files = files.map(|file| Ok(changed(seed, file)), |unlisted| unlisted).unwrap();
        let list: Vec<_> = list.into_iter().map(|file| changed(seed, file)).collect();
        prop_assert_eq!(files.iter().collect::<Vec<_>>(), list);
    }

    #[test]
    fn files_are_sorted_and_found_by_their_paths(made in made(), other in "files/ab/ab[ab0]{30}\\.whl|[a-cA./]{0,3}") {
        let mut list: Vec<BundledFile<'_>> = made.iter().map(file).collect();
        let mut files = Files::of(list.iter().cloned()).unwrap();
        for is_sorted in [false, true] {
            let (by_path, in_lower) = (files.by_path(), files.by_path_in_lower());
            for path in list.iter().map(|file| file.path.clone()).chain([FilePath::from(other.as_str())]) {
                let found = by_path.find(&path).map(|place| files.get(place).unwrap().path);
                prop_assert_eq!(found, list.iter().find(|file| file.path == path).map(|file| file.path.clone()));
                let is_like = |file: &BundledFile<'_>| file.path.cmp_lower(&path).is_eq();
                prop_assert_eq!(in_lower.find(&path).is_some(), list.iter().any(is_like));
            }
            let lower = |file: &BundledFile<'_>| file.path.text().to_ascii_lowercase();
            let (mut all, mut all_lower): (Vec<String>, Vec<String>) =
                list.iter().map(|file| (file.path.to_string(), lower(file))).unzip();
            all.sort();
            all_lower.sort();
            let is_twice = |all: &[String]| all.windows(2).any(|pair| pair[0] == pair[1]);
            prop_assert_eq!(by_path.twice().is_some(), is_twice(&all));
            prop_assert_eq!(in_lower.twice().is_some(), is_twice(&all_lower));
            if !is_sorted {
                files.sort();
                let paths: Vec<String> = files.iter().map(|file| file.path.to_string()).collect();
                prop_assert_eq!(paths, all);
                list.iter_mut().for_each(|file| file.volume = None);
                let key = |file: &BundledFile<'_>| format!("{file:?}");
                let mut now: Vec<String> = files.iter().map(|file| key(&file)).collect();
                let mut was: Vec<String> = list.iter().map(key).collect();
                now.sort();
                was.sort();
                prop_assert_eq!(now, was);
            }
        }
    }

    #[test]
    fn of_each_content_one_is_kept_by_its_first_name(made in made()) {
        let mut files = Files::of(made.iter().map(file)).unwrap();
        let mut names = std::collections::BTreeMap::new();
        for file in made.iter().map(file) {
            let name = names.entry(file.sha256).or_insert(file.name.clone());
            *name = (&*name).min(&file.name).clone();
        }
        files.keep_one_of_each();
        let kept: Vec<_> = files.iter().map(|file| (file.sha256, file.name)).collect();
        prop_assert_eq!(kept, names.into_iter().collect::<Vec<_>>());
        for one in files.iter() {
            let was = made.iter().map(file).any(|file| BundledFile { volume: None, ..file } == one);
            prop_assert!(was, "{:?}", one);
        }
    }
}

#[test]
fn a_file_takes_a_row_and_its_name() {
    assert_eq!(size_of::<Row>(), 48);
    let sha256 = Digest::of(b"a");
    let bytes = |name: &str, path: FilePath| {
        let file = BundledFile { name: name.into(), path, sha256, size: 1, volume: None };
        Files::of([file]).unwrap().text.len()
    };
    assert_eq!(bytes("a-1-0.conda", FilePath::of(sha256, "a-1-0.conda")), 11);
    assert_eq!(bytes("b.age", FilePath::from("files/ab/b.age")), 14);
    assert_eq!(bytes("b.whl", FilePath::from("files/ab/b.whl.001")), 5 + 18);
    let digits = FilePath::from("files/ab/abababababababababababababababab.age");
    assert_eq!(bytes("abababababababababababababababab.age", digits.clone()), PACKED_BYTES);
    assert_eq!(bytes("a-1-0.conda", digits), 11 + PACKED_BYTES);
}

#[test]
fn what_is_called_as_its_path_ends_is_given_back_so() {
    for path in
        ["files/ab/abababababababababababababababab.age", "files/ab/abababababababababababababababab.whl.007"]
    {
        for from in 0..=path.len() {
            let (name, path, sha256) = (path[from..].into(), FilePath::from(path), Digest::of(b"a"));
            let file = BundledFile { name, path, sha256, size: 1, volume: None };
            assert_eq!(Files::of([file.clone()]).unwrap().get(0), Some(file));
        }
    }
}

#[test]
fn what_no_file_system_takes_is_not_listed() {
    let (most, more) = ("a".repeat(NAME_BYTES_MAX), "a".repeat(NAME_BYTES_MAX + 1));
    let push = |name: &str, path: &str| {
        let file = BundledFile {
            name: name.into(),
            path: path.into(),
            sha256: Digest::of(b"a"),
            size: 1,
            volume: None,
        };
        let mut files = Files::default();
        let pushed = files.push(&file);
        assert_eq!((files.len(), files.text.is_empty()), (usize::from(pushed.is_ok()), pushed.is_err()));
        pushed
    };
    assert_eq!(push(&most, &most), Ok(()));
    assert_eq!(push(&most, "b"), Ok(()));
    assert_eq!(push(&more, "b"), Err(Unlisted::Long));
    assert_eq!(push("b", &more), Err(Unlisted::Long));
}
