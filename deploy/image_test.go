package deploy_test

import (
	"archive/tar"
	"compress/gzip"
	"crypto/x509"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	imageVersion  = "v1.2.3-test"
	imageRevision = "0123456789abcdef0123456789abcdef01234567"
	imageBytes    = 30_000_000 // at most, unpacked
)

// TestImage builds the image with deploy/image/build and looks at it: what it
// is set to run, that nothing is in it but what belongs there, and that it comes
// out the same elsewhere. It needs buildah, and is skipped without; with
// REQUIRE_IMAGE=1 it fails instead.
func TestImage(t *testing.T) {
	built := buildImage(t, "..")
	t.Run("settings", func(t *testing.T) { testImageSettings(t, built) })
	t.Run("contents", func(t *testing.T) { testImageContents(t, built) })
	t.Run("the same elsewhere", func(t *testing.T) {
		if again := buildImage(t, copyOfSources(t)); again.digest != built.digest {
			t.Errorf("built in another folder it is %s, not %s", again.digest, built.digest)
		}
	})
}

func testImageSettings(t *testing.T, built image) {
	want := imageConfig{
		Architecture: built.config.Architecture, // the machine's
		OS:           "linux",
		Config: imageSettings{
			User:         "65532:65532",
			Entrypoint:   []string{"/worklist-relay"}, // not through a shell: SIGTERM has to reach the program
			Cmd:          []string{"run"},
			ExposedPorts: map[string]struct{}{"8080/tcp": {}},
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HTTP_ADDR=:8080"},
			Labels: map[string]string{
				"org.opencontainers.image.title":                "worklist-relay",
				"org.opencontainers.image.description":          "Forwards worklist actions from a Service Bus queue to imaging gateways behind Azure Relay",
				"org.opencontainers.image.source":               "https://github.com/worklist-relay/worklist-relay",
				"org.opencontainers.image.licenses":             "MIT",
				"org.opencontainers.image.version":              imageVersion,
				"org.opencontainers.image.revision":             imageRevision,
				"io.github.worklist-relay.sbom":                 "/sbom.cdx.json",
				"io.github.worklist-relay.third-party-licenses": "/licenses",
			},
		},
	}
	if diff := cmp.Diff(want, built.config); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

// Of what is in the image only the program can be executed, and every module in it
// is in the list of contents and has its licence there.
func testImageContents(t *testing.T, built image) {
	root := t.TempDir()
	size := built.unpack(t, root)
	t.Logf("%d bytes, %d in the registry", size, built.compressed)
	if size > imageBytes {
		t.Errorf("%d bytes, more than %d", size, imageBytes)
	}
	for _, name := range filesIn(t, root) {
		info, err := os.Stat(filepath.Join(root, name))
		switch {
		case err != nil:
			t.Error(err)
		case name == "worklist-relay":
			checkMode(t, name, info, 0o755)
		case slices.Contains([]string{"LICENSE", "sbom.cdx.json", "etc/ssl/certs/ca-certificates.crt"}, name), strings.HasPrefix(name, "licenses/"):
			checkMode(t, name, info, 0o644)
		default:
			t.Errorf("%s does not belong there", name)
		}
	}

	program := filepath.Join(root, "worklist-relay")
	binary, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	if libraries, err := binary.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("the program needs %v (%v), want a static one", libraries, err)
	}
	if out, err := exec.Command(program, "--version").CombinedOutput(); err != nil || string(out) != imageVersion+"\n" {
		t.Errorf("--version: %q, %v", out, err)
	}
	certificates, err := os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))
	if err != nil || !x509.NewCertPool().AppendCertsFromPEM(certificates) {
		t.Errorf("no certificates: %v", err)
	}

	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"std@" + info.GoVersion}
	for _, module := range info.Deps {
		name := module.Path + "@" + module.Version
		want = append(want, name)
		if texts, err := filepath.Glob(filepath.Join(root, "licenses", name, "LICEN*")); err != nil || len(texts) == 0 {
			t.Errorf("no licence of %s: %v", name, err)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, componentsOf(t, filepath.Join(root, "sbom.cdx.json"))); diff != "" {
		t.Errorf("sbom.cdx.json does not list what is in the program (-want +got):\n%s", diff)
	}
}

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

// filesIn names the files below a folder.
func filesIn(t *testing.T, root string) (names []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func checkMode(t *testing.T, name string, info fs.FileInfo, want fs.FileMode) {
	t.Helper()
	if info.Mode() != want {
		t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
	}
}

// componentsOf are the modules that a CycloneDX document lists, sorted. It must be
// about this version of the program.
func componentsOf(t *testing.T, path string) []string {
	t.Helper()
	type component struct{ Name, Version string }
	var document struct {
		BOMFormat  string
		Metadata   struct{ Component component }
		Components []component
	}
	readJSON(t, path, &document)
	if about := document.Metadata.Component; document.BOMFormat != "CycloneDX" || about.Version != imageVersion {
		t.Errorf("the document is %s, about %v", document.BOMFormat, about)
	}
	var names []string
	for _, c := range document.Components {
		names = append(names, c.Name+"@"+c.Version)
	}
	slices.Sort(names)
	return names
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
