package upstream

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-cni/weft/lab/internal/eks/images"
)

// rootfs collects an image's files. What is there already stays.
type rootfs struct {
	files []images.File
	have  map[string]bool
}

func newRootfs() *rootfs { return &rootfs{have: map[string]bool{}} }

// add adds files whose paths are free and says whether the last one's was.
func (r *rootfs) add(files ...images.File) bool {
	added := false
	for _, f := range files {
		p := path.Clean("/" + f.Path)
		if added = !r.have[p]; added {
			r.have[p] = true
			r.files = append(r.files, f)
		}
	}
	return added
}

// unread are folders of packages that no test reads.
var unread = []string{
	"/usr/share/doc", "/usr/share/man", "/usr/share/info", "/usr/share/locale", "/usr/share/lintian", "/usr/share/bash-completion",
	"/usr/share/zoneinfo", "/usr/share/perl5", "/usr/lib/systemd", "/lib/systemd",
}

// addTree adds an unpacked tree of packages without what no test reads.
func (r *rootfs) addTree(root string) error {
	return filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == root {
			return err
		}
		p := strings.TrimPrefix(file, root)
		if slices.Contains(unread, p) {
			return filepath.SkipDir
		}
		f := images.File{Path: p}
		switch {
		case d.IsDir():
			f.Dir = true
		case d.Type()&fs.ModeSymlink != 0:
			if f.Link, err = os.Readlink(file); err != nil {
				return err
			}
		case d.Type().IsRegular():
			f.Source = file
		default:
			return fmt.Errorf("%s is neither a file, a folder nor a link", file)
		}
		if f.Link == "" {
			info, err := d.Info()
			if err != nil {
				return err
			}
			f.Mode = int64(info.Mode().Perm())
			if p == "/tmp" || p == "/var/tmp" {
				f.Mode = 0o1777
			}
		}
		r.add(f)
		return nil
	})
}

// addApplets gives busybox the names of those of its applets that no package brings.
func (r *rootfs) addApplets(applets []string) {
	for _, a := range applets {
		free := true
		for _, dir := range []string{"/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/"} {
			free = free && !r.have[dir+a]
		}
		if free {
			r.add(images.File{Path: "/bin/" + a, Link: "/bin/busybox"})
		}
	}
}

// addBase adds what every root file system has.
func (r *rootfs) addBase() {
	r.add(
		images.File{Path: "/tmp", Dir: true, Mode: 0o1777},
		images.File{Path: "/var/tmp", Dir: true, Mode: 0o1777},
		images.File{Path: "/run", Dir: true},
		images.File{Path: "/root", Dir: true, Mode: 0o700},
		images.File{Path: "/etc/passwd", Mode: 0o644, Data: []byte("root:x:0:0:root:/root:/bin/sh\n" +
			"www-data:x:33:33:www-data:/var/www:/bin/sh\nuser-defined-in-image:x:1000:1000::/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")},
		images.File{Path: "/etc/group", Mode: 0o644, Data: []byte("root:x:0:\nwww-data:x:33:\n" +
			"user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\nnogroup:x:65534:\n")},
		images.File{Path: "/etc/nsswitch.conf", Mode: 0o644, Data: []byte("hosts: files dns\n")},
	)
}
