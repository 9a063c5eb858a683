import threading

from edge.slot import Slot


def test_a_newer_item_replaces_an_older_one_and_is_counted():
    slot = Slot[int]()
    for item in range(4):
        slot.put(item)
    assert slot.take() == 3
    assert slot.replaced == 3


def test_what_is_taken_is_not_counted():
    slot = Slot[int]()
    slot.put(1)
    assert slot.take() == 1
    slot.put(2)
    assert slot.take() == 2
    assert slot.replaced == 0


def test_the_last_item_can_be_taken_from_a_closed_slot():
    slot = Slot[int]()
    slot.put(1)
    slot.close()
    assert slot.take() == 1
    assert slot.take() is None


def test_whoever_waits_is_woken_by_an_item_and_by_the_end():
    slot = Slot[int]()
    taken = []
    thread = threading.Thread(target=lambda: taken.extend(iter(slot.take, None)), daemon=True)
    thread.start()
    slot.put(1)
    slot.close()
    thread.join(5)
    assert not thread.is_alive()
    assert taken == [1]
