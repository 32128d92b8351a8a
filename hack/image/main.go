// Command image writes a container image as an OCI image-layout tar from files
// of this machine, for clusters that can pull from no registry:
//
//	image -name example.org/tool:dev -out tool.tar -entrypoint /bin/tool \
//	      -env A=B -label k=v -user 65532 out/tool:/bin/tool:0755 …
//
// "tree" in place of the mode puts in every file of a folder; those that somebody may run stay so. -entrypoint may
// have words after the program.
//
// The same files give the same bytes: every time stamp is the epoch.
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// nameAnnotation is the key by which containerd names an imported image.
const nameAnnotation = "io.containerd.image.name"

// refNameAnnotation is the OCI specification's own key for a name.
const refNameAnnotation = "org.opencontainers.image.ref.name"

// epoch is the time stamp of everything written.
var epoch = time.Unix(0, 0).UTC()

// file is one entry of the layer.
type file struct {
	source      string
	destination string
	mode        int64
}

// pairs is a repeatable KEY=VALUE flag.
type pairs []string

func (p *pairs) String() string { return strings.Join(*p, " ") }

func (p *pairs) Set(value string) error {
	if !strings.Contains(value, "=") {
		return fmt.Errorf("%q is not KEY=VALUE", value)
	}
	*p = append(*p, value)
	return nil
}

// architecture of the images: that of the machine which builds them.
const architecture = runtime.GOARCH

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run() error {
	var env, labels pairs
	name := flag.String("name", "", "the image's full name with its tag")
	out := flag.String("out", "", "the tar to write")
	entrypoint := flag.String("entrypoint", "", "the program that a container runs, and its first arguments")
	user := flag.String("user", "65532:65532", "the user that a container runs as")
	flag.Var(&env, "env", "an environment variable, NAME=VALUE (repeatable)")
	flag.Var(&labels, "label", "a label, KEY=VALUE (repeatable)")
	flag.Parse()
	if *name == "" || *out == "" || *entrypoint == "" || flag.NArg() == 0 {
		return errors.New("-name, -out, -entrypoint and at least one SOURCE:DESTINATION:MODE are needed")
	}

	files, err := parseFiles(flag.Args())
	if err != nil {
		return err
	}
	image, err := buildImage(files, v1.Config{
		Entrypoint: strings.Fields(*entrypoint),
		User:       *user,
		Env:        append([]string{"PATH=/usr/local/bin:/usr/bin:/bin"}, env...),
		Labels:     toMap(labels),
		WorkingDir: "/",
	})
	if err != nil {
		return err
	}
	return writeImage(image, *name, *out)
}

func parseFiles(arguments []string) ([]file, error) {
	var files []file
	for _, argument := range arguments {
		parts := strings.Split(argument, ":")
		if len(parts) != 3 || !path.IsAbs(parts[1]) {
			return nil, fmt.Errorf("%q is not SOURCE:/DESTINATION:MODE", argument)
		}
		if parts[2] == "tree" {
			found, err := treeFiles(parts[0], parts[1])
			if err != nil {
				return nil, fmt.Errorf("the folder %s: %w", parts[0], err)
			}
			files = append(files, found...)
			continue
		}
		mode, err := strconv.ParseInt(parts[2], 8, 32)
		if err != nil {
			return nil, fmt.Errorf("mode of %q: %w", argument, err)
		}
		files = append(files, file{parts[0], path.Clean(parts[1]), mode})
	}
	sort.Slice(files, func(i, j int) bool { return files[i].destination < files[j].destination })
	return files, nil
}

// treeFiles are the files of a folder and of those in it. Links are followed.
func treeFiles(folder, destination string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		mode := int64(0o644)
		if info.Mode()&0o111 != 0 {
			mode = 0o755
		}
		relative, err := filepath.Rel(folder, name)
		if err != nil {
			return err
		}
		files = append(files, file{name, path.Join(destination, filepath.ToSlash(relative)), mode})
		return nil
	})
	return files, err
}

func toMap(list pairs) map[string]string {
	result := make(map[string]string, len(list))
	for _, pair := range list {
		key, value, _ := strings.Cut(pair, "=")
		result[key] = value
	}
	return result
}

func buildImage(files []file, config v1.Config) (v1.Image, error) {
	content, err := layerTar(files)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(1))
	if err != nil {
		return nil, fmt.Errorf("layer: %w", err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.Append(base, mutate.Addendum{
		Layer:   layer,
		History: v1.History{CreatedBy: "hack/image", Created: v1.Time{Time: epoch}},
	})
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return mutate.ConfigFile(image, withPlatform(image, config))
}

func withPlatform(image v1.Image, config v1.Config) *v1.ConfigFile {
	file, err := image.ConfigFile()
	if err != nil {
		panic(err) // an image in memory always has a config file
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", architecture, config
	file.Created = v1.Time{Time: epoch}
	return file
}

// layerTar is the layer's content: the files, the folders above them, and a
// /tmp that any user may write to.
func layerTar(files []file) ([]byte, error) {
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	folders := map[string]bool{"/": true}
	if err := addFolder(writer, folders, "/tmp", 0o1777); err != nil {
		return nil, err
	}
	for _, file := range files {
		if err := addFolder(writer, folders, path.Dir(file.destination), 0o755); err != nil {
			return nil, err
		}
		if err := addFile(writer, file); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("layer: %w", err)
	}
	return buffer.Bytes(), nil
}

func addFolder(writer *tar.Writer, done map[string]bool, folder string, mode int64) error {
	if done[folder] {
		return nil
	}
	if err := addFolder(writer, done, path.Dir(folder), 0o755); err != nil {
		return err
	}
	done[folder] = true
	return writer.WriteHeader(&tar.Header{
		Typeflag: tar.TypeDir, Name: strings.TrimPrefix(folder, "/") + "/", Mode: mode, ModTime: epoch,
	})
}

func addFile(writer *tar.Writer, file file) error {
	content, err := os.ReadFile(file.source)
	if err != nil {
		return err
	}
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: strings.TrimPrefix(file.destination, "/"),
		Mode: file.mode, Size: int64(len(content)), ModTime: epoch,
	}
	if err := writer.WriteHeader(header); err != nil {
		return fmt.Errorf("%s: %w", file.destination, err)
	}
	_, err = writer.Write(content)
	return err
}

// writeImage lays the image out in a temporary folder beside the target and
// packs that folder, so that the target appears whole or not at all.
func writeImage(image v1.Image, name, out string) error {
	folder, err := os.MkdirTemp(filepath.Dir(out), ".image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	where, err := layout.Write(filepath.Join(folder, "layout"), empty.Index)
	if err != nil {
		return err
	}
	err = where.AppendImage(image,
		layout.WithAnnotations(map[string]string{nameAnnotation: name, refNameAnnotation: name}),
		layout.WithPlatform(v1.Platform{OS: "linux", Architecture: architecture}))
	if err != nil {
		return err
	}
	packed := filepath.Join(folder, "image.tar")
	if err := packFolder(filepath.Join(folder, "layout"), packed); err != nil {
		return err
	}
	return os.Rename(packed, out)
}

// packFolder writes the folder's files as a tar, in name order.
func packFolder(folder, out string) error {
	target, err := os.Create(out)
	if err != nil {
		return err
	}
	defer target.Close()
	writer := tar.NewWriter(target)
	err = filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(folder, name)
		if err != nil {
			return err
		}
		return addFile(writer, file{source: name, destination: "/" + filepath.ToSlash(relative), mode: 0o644})
	})
	if err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	return target.Close()
}
