#include "core/fair_lock.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/harness.h"

namespace vilg::test {
namespace {

void wait_until(const std::function<bool()>& condition) {
  for (int i = 0; i < 5000 && !condition(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT(condition(), "waited 5 s");
}

}  // namespace

VILG_TEST(fair_lock_lets_readers_together_and_writers_alone) {
  FairLock lock;
  std::atomic<int> readers{0}, writers{0}, most_readers{0}, faults{0};
  int64_t guarded = 0;  // only writers change it: a race is a wrong sum
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        if ((i + t) % 3 == 0) {
          const auto hold = lock.exclusive(nullptr);
          if (++writers != 1 || readers != 0) ++faults;
          ++guarded;
          --writers;
        } else {
          const auto hold = lock.shared(nullptr);
          const int now = ++readers;
          if (writers != 0) ++faults;
          if (now > most_readers) most_readers = now;
          --readers;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT(faults == 0, "%d times two were in that exclude each other", faults.load());
  EXPECT(guarded == 400, "%lld", static_cast<long long>(guarded));

  // two readers at once, for certain
  const auto one = lock.shared(nullptr);
  const auto two = lock.shared(nullptr);
}

VILG_TEST(fair_lock_serves_in_the_order_of_arrival) {
  FairLock lock;
  std::vector<int> order;
  std::mutex order_mutex;
  const auto note = [&](int who) {
    std::lock_guard guard(order_mutex);
    order.push_back(who);
  };
  std::vector<std::thread> threads;
  std::atomic<int> started{0};
  {
    const auto first = lock.shared(nullptr);
    // a writer waits, so the reader after it waits too, though a reader is in
    for (int who = 0; who < 4; ++who) {
      threads.emplace_back([&, who] {
        ++started;
        const auto hold = who % 2 == 0 ? lock.exclusive(nullptr) : lock.shared(nullptr);
        note(who);
      });
      wait_until([&] { return started == who + 1; });
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    std::lock_guard guard(order_mutex);
    EXPECT(order.empty(), "%zu overtook a waiting writer", order.size());
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT((order == std::vector<int>{0, 1, 2, 3}), "another order");
}

VILG_TEST(fair_lock_waiting_ends_when_stopped) {
  FairLock lock;
  StopFlag stop;
  std::atomic<bool> stopped{false}, passed{false};
  std::thread waiter, behind;
  {
    const auto first = lock.shared(nullptr);
    waiter = std::thread([&] {
      try {
        const auto hold = lock.exclusive(&stop);
      } catch (const Stopped&) {
        stopped = true;
      }
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    behind = std::thread([&] {
      const auto hold = lock.shared(nullptr);
      passed = true;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT(!passed, "a reader overtook a waiting writer");
    stop.raise();
    wait_until([&] { return stopped && passed; });
  }
  waiter.join();
  behind.join();
  const auto last = lock.exclusive(nullptr);
}

}  // namespace vilg::test
