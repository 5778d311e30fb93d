package deploy_test

import (
	"crypto/x509"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
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
// out the same elsewhere. It needs buildah.
func TestImage(t *testing.T) {
	imageAsked(t)
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
