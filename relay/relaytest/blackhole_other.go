//go:build !linux

package relaytest

import "errors"

// listenDeaf needs a kernel that drops what a backlog cannot hold.
func listenDeaf() (addr string, closeListener func() error, err error) {
	return "", nil, errors.ErrUnsupported
}
