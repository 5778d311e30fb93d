package relaytest

import (
	"errors"
	"net"
	"strconv"
	"syscall"
)

// listenDeaf makes a listener that never accepts and whose backlog is the
// smallest there is. The kernel drops what does not fit.
func listenDeaf() (addr string, closeListener func() error, err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	closeListener = func() error { return syscall.Close(fd) }
	err = errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0))
	if err != nil {
		return "", nil, errors.Join(err, closeListener())
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return "", nil, errors.Join(err, closeListener())
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port)), closeListener, nil
}
