package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// sampleFlags are what sample was told.
type sampleFlags struct {
	count    int
	gateways string
	seed     uint64
	updates  bool
}

func sampleCommand() *cobra.Command {
	var f sampleFlags
	cmd := &cobra.Command{
		Use:   "sample",
		Short: "Print sample actions, one JSON object a line, as worklist-relay enqueue reads them",
		Long: "Print creates for synthetic participants, scheduled today at the clinic, one JSON\n" +
			"object a line, for the gateways in turn. With --updates, updates of their items to\n" +
			"IN PROGRESS and then to COMPLETED come among and after them, as far as --count goes.\n" +
			"One seed gives the same actions again, apart from dates; without a seed every run\n" +
			"gives others.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.count < 1 || f.count > 1_000_000 {
				return usage(errors.New("sample: --count is a number from 1 to 1000000"))
			}
			providers, err := parseProviders(f.gateways)
			if err != nil {
				return usage(fmt.Errorf("sample: --gateways: %w", err))
			}
			if !cmd.Flags().Changed("seed") {
				f.seed = rand.Uint64()
			}
			now, err := clinicNow()
			if err == nil {
				err = f.print(cmd.OutOrStdout(), providers, now)
			}
			if err != nil {
				return fmt.Errorf("sample: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&f.count, "count", 30, "how many actions")
	cmd.Flags().BoolVar(&f.updates, "updates", false, "follow up each create with two updates of its item")
	cmd.Flags().StringVar(&f.gateways, "gateways", "3", "a count (gw-001, gw-002, ...) or a list of names (leeds,hull)")
	cmd.Flags().Uint64Var(&f.seed, "seed", 0, "where to begin (default a random number)")
	return cmd
}

// parseProviders reads a count or a list of names, separated by commas.
func parseProviders(text string) ([]string, error) {
	var providers []string
	counted := 0
	for entry := range strings.SplitSeq(text, ",") {
		names, err := gatewayNames(strings.TrimSpace(entry), &counted)
		if err != nil {
			return nil, err
		}
		providers = append(providers, names...)
	}
	return providers, nil
}

func (f sampleFlags) print(w io.Writer, providers []string, now time.Time) error {
	p := producer{sampler: newSampler(f.seed, now), providers: providers, creates: f.count}
	if f.updates {
		p.creates = (f.count + len(courseOfItem)) / (1 + len(courseOfItem))
		p.follows = true
	}
	buffered := bufio.NewWriter(w)
	lines := json.NewEncoder(buffered)
	for range f.count {
		if err := lines.Encode(p.next()); err != nil {
			return err
		}
	}
	return buffered.Flush()
}

// courseOfItem is what becomes of an item after it was created.
var courseOfItem = []string{"IN PROGRESS", "COMPLETED"}

// producer is a clinic system with many participants at once: it mixes the
// updates of earlier items into the creates. It is for one goroutine.
type producer struct {
	sampler   *sampler
	providers []string
	creates   int  // still to come
	follows   bool // with updates
	turn      int  // of providers
	under     []visit
}

// visit is an item with updates still to come.
type visit struct {
	provider string
	created  action
	next     []string // statuses
}

// fewestVisits are under way before there are updates, so that these do not
// come right behind their creates.
const fewestVisits = 20

// next is the next action. There is one as long as creates or visits are left.
func (p *producer) next() request {
	begins := len(p.under) < fewestVisits || p.sampler.intN(3) == 0
	if p.creates > 0 && begins || len(p.under) == 0 {
		return p.begin()
	}
	i := p.sampler.intN(uint64(len(p.under)))
	v := &p.under[i]
	r := request{ProviderID: v.provider, Action: p.sampler.update(v.created, v.next[0])}
	if v.next = v.next[1:]; len(v.next) == 0 {
		p.under[i] = p.under[len(p.under)-1]
		p.under = p.under[:len(p.under)-1]
	}
	return r
}

// begin creates an item for a new participant.
func (p *producer) begin() request {
	r := request{ProviderID: p.providers[p.turn%len(p.providers)], Action: p.sampler.create()}
	p.turn++
	p.creates--
	if p.follows {
		p.under = append(p.under, visit{r.ProviderID, r.Action, courseOfItem})
	}
	return r
}

// clinicNow is the present in the clinic's time zone.
func clinicNow() (time.Time, error) {
	zone, err := time.LoadLocation(clinicZone)
	return time.Now().In(zone), err
}
