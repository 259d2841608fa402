# SPDX-License-Identifier: Apache-2.0
import os
import signal

import pytest

from iclmsr.interruption import Stopped, stop_requests


def test_a_request_raises_only_where_nothing_is_done_but_waiting():
    with stop_requests() as requests:
        with requests.cut_short():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert requests == [signal.SIGTERM]
        with pytest.raises(Stopped), requests.cut_short():
            pytest.fail("waited though the request had come before")


def test_a_request_that_comes_while_waiting_raises_and_is_kept():
    with stop_requests() as requests:
        with pytest.raises(Stopped), requests.cut_short():
            os.kill(os.getpid(), signal.SIGINT)
        assert requests == [signal.SIGINT]
        assert not requests.waiting
