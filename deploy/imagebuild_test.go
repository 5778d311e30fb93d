package deploy_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
)

// image is what an OCI layout holds.
type image struct {
	digest     string // of its manifest: the image's name in a registry
	config     imageConfig
	layers     []string // files: gzipped tars
	compressed int64    // bytes of these
}

// imageConfig is the part of an OCI image configuration that we set.
type imageConfig struct {
	Architecture string        `json:"architecture"`
	OS           string        `json:"os"`
	Config       imageSettings `json:"config"`
}

// imageSettings is what a container of the image begins with.
type imageSettings struct {
	User         string
	ExposedPorts map[string]struct{}
	Env          []string
	Entrypoint   []string
	Cmd          []string
	WorkingDir   string
	Labels       map[string]string
	Volumes      map[string]struct{}
	Healthcheck  any
}

// buildImage builds the sources in a folder; the image goes with the test.
func buildImage(t *testing.T, sources string) image {
	t.Helper()
	if _, err := exec.LookPath("buildah"); err != nil {
		withoutImage(t, "%v", err)
	}
	out := filepath.Join(t.TempDir(), "image")
	build := exec.CommandContext(t.Context(), filepath.Join(sources, "deploy/image/build"), out)
	build.Env = append(os.Environ(), "VERSION="+imageVersion, "REVISION="+imageRevision)
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, said)
	}
	blobs := filepath.Join(out, "oci/blobs")
	blob := func(digest string) string { return filepath.Join(blobs, strings.ReplaceAll(digest, ":", "/")) }
	type descriptor struct {
		Digest string
		Size   int64
	}
	var index struct{ Manifests []descriptor }
	readJSON(t, filepath.Join(out, "oci/index.json"), &index)
	if len(index.Manifests) != 1 {
		t.Fatalf("%d images in the layout, want 1", len(index.Manifests))
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	built := image{digest: index.Manifests[0].Digest}
	readJSON(t, blob(built.digest), &manifest)
	readJSON(t, blob(manifest.Config.Digest), &built.config)
	for _, layer := range manifest.Layers {
		built.layers = append(built.layers, blob(layer.Digest))
		built.compressed += layer.Size
	}
	return built
}

// imageAsked skips a test of the image that nobody asks for, with -long or with
// REQUIRE_IMAGE=1.
func imageAsked(t *testing.T) {
	t.Helper()
	if os.Getenv("REQUIRE_IMAGE") != "1" {
		suite.OnlyLong(t, "an image is built")
	}
}

// withoutImage ends a test that cannot have the image, or cannot run it.
func withoutImage(t *testing.T, why string, args ...any) {
	t.Helper()
	if os.Getenv("REQUIRE_IMAGE") == "1" {
		t.Fatalf("REQUIRE_IMAGE=1, but "+why, args...)
	}
	t.Skipf("the image is not tested: "+why, args...)
}

// copyOfSources copies the work tree to another place, without its history.
func copyOfSources(t *testing.T) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name() == ".git" {
			continue
		}
		if said, err := exec.Command("cp", "-R", filepath.Join("..", entry.Name()), to).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
	}
	return to
}

// unpack writes the image's files into a folder, and returns how many bytes they
// have. Anything else than folders and files is an error.
func (i image) unpack(t *testing.T, root string) (size int64) {
	t.Helper()
	for _, layer := range i.layers {
		file, err := os.Open(layer)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		unzipped, err := gzip.NewReader(file)
		if err != nil {
			t.Fatal(err)
		}
		for packed := tar.NewReader(unzipped); ; {
			header, err := packed.Next()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			size += header.Size
			if header.Uid != 0 || header.Gid != 0 {
				t.Errorf("%s belongs to %d:%d; the program could change it", header.Name, header.Uid, header.Gid)
			}
			if err := unpackOne(header, packed, filepath.Join(root, filepath.Clean("/"+header.Name))); err != nil {
				t.Fatal(err)
			}
		}
	}
	return size
}

func unpackOne(header *tar.Header, content io.Reader, path string) error {
	switch header.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(path, 0o755)
	case tar.TypeReg:
		text, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
		return os.Chmod(path, header.FileInfo().Mode())
	}
	return errors.New(header.Name + " is neither a folder nor a file")
}
