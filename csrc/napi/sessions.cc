// Decoding sessions: the candidates of one prompt, the texts of one picture.
#include "kernels/matmul.h"
#include "napi/definitions.h"
#include "napi/models.h"
#include "sample/text_session.h"

namespace vilg::binding {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 31;

template <typename Session>
struct Decoding {
  template <typename... Arguments>
  explicit Decoding(std::shared_ptr<Locked<Generator>> locked, Arguments&&... arguments)
      : generator(std::move(locked)),
        session(model_of(generator), std::forward<Arguments>(arguments)...) {}
  std::shared_ptr<Locked<Generator>> generator;
  Session session;
  InUse in_use;
};

struct ImageSessionTraits {
  using Impl = Decoding<ImageSession>;
  static constexpr const char* kName = "ImageSession";
  static int64_t size_bytes(const Impl& impl) {
    return static_cast<int64_t>(impl.session.cache_bytes());
  }
};
struct TextSessionTraits {
  using Impl = Decoding<TextSession>;
  static constexpr const char* kName = "TextSession";
  static int64_t size_bytes(const Impl& impl) {
    return static_cast<int64_t>(impl.session.cache_bytes());
  }
};
using ImageSessionClass = Wrap<ImageSessionTraits>;
using TextSessionClass = Wrap<TextSessionTraits>;

// createImageSession(generator, text, valid, rows, firstStream, draw)
Napi::Value create_image_session(const Napi::CallbackInfo& info) {
  const int64_t rows = Argument(info, 3, "rows").integer(1, kSkinnyRows);
  const int64_t first_stream =
      Argument(info, 4, "firstStream").integer(0, (int64_t{1} << 32) - rows);
  return ImageSessionClass::create(
      info.Env(),
      std::make_shared<Decoding<ImageSession>>(
          GeneratorClass::get(Argument(info, 0, "generator")),
          copied<int32_t>(Argument(info, 1, "text")), copied<uint8_t>(Argument(info, 2, "valid")),
          rows, static_cast<uint32_t>(first_stream), draw_options(Argument(info, 5, "draw"))));
}

// step(count, control)
Napi::Value step_image(const Napi::CallbackInfo& info,
                       const std::shared_ptr<Decoding<ImageSession>>& decoding) {
  struct Result {
    int64_t position;
    std::vector<int32_t> tokens;
    std::vector<double> log_probabilities;
  };
  return start_task(
      info.Env(), Argument(info, 1, "control").task_options(),
      [decoding, count = Argument(info, 0, "count").integer(1, kMaxTokens),
       lease = Lease(decoding, decoding->in_use, "session")](TaskContext& task) {
        const auto hold = decoding->generator->lock.shared(&task.stop);
        const int64_t position = decoding->session.step(count, &task.stop);
        return Result{position, decoding->session.tokens(), decoding->session.log_probabilities()};
      },
      [](Napi::Env env, Result& stepped) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("position", static_cast<double>(stepped.position));
        result.Set("tokens", to_typed_array(env, stepped.tokens));
        result.Set("logProbabilities", to_typed_array(env, stepped.log_probabilities));
        return result;
      });
}

// createTextSession(generator, image, rows, options, draw)
Napi::Value create_text_session(const Napi::CallbackInfo& info) {
  const Argument options(info, 3, "options");
  const auto token = [&](const char* name) {
    return static_cast<int32_t>(options[name].integer(0, kMaxTokens - 1));
  };
  const TextTokens vocabulary{.cls = token("cls"),
                              .sep = token("sep"),
                              .banned = copied<int32_t>(options["banned"]),
                              .given = copied<int32_t>(options["given"])};
  return TextSessionClass::create(
      info.Env(),
      std::make_shared<Decoding<TextSession>>(GeneratorClass::get(Argument(info, 0, "generator")),
                                              copied<int32_t>(Argument(info, 1, "image")),
                                              Argument(info, 2, "rows").integer(1, kSkinnyRows),
                                              options["beamSearch"].boolean(),
                                              float_argument(options["lengthPenalty"], -1e6, 1e6),
                                              vocabulary, draw_options(Argument(info, 4, "draw"))));
}

// step(count, control)
Napi::Value step_text(const Napi::CallbackInfo& info,
                      const std::shared_ptr<Decoding<TextSession>>& decoding) {
  struct Result {
    int64_t position;
    bool done;
  };
  return start_task(
      info.Env(), Argument(info, 1, "control").task_options(),
      [decoding, count = Argument(info, 0, "count").integer(1, kMaxTokens),
       lease = Lease(decoding, decoding->in_use, "session")](TaskContext& task) {
        const auto hold = decoding->generator->lock.shared(&task.stop);
        const bool done = decoding->session.step(count, &task.stop);
        return Result{decoding->session.position(), done};
      },
      [](Napi::Env env, Result& stepped) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("position", static_cast<double>(stepped.position));
        result.Set("done", stepped.done);
        return result;
      });
}

// texts()
Napi::Value texts(const Napi::CallbackInfo& info,
                  const std::shared_ptr<Decoding<TextSession>>& decoding) {
  // a step in flight changes them
  const Lease lease(decoding, decoding->in_use, "session");
  const std::vector<TextSequence> sequences = decoding->session.texts();
  Napi::Array result = Napi::Array::New(info.Env(), sequences.size());
  for (size_t i = 0; i < sequences.size(); ++i) {
    Napi::Object text = Napi::Object::New(info.Env());
    text.Set("tokens", to_typed_array(info.Env(), sequences[i].tokens));
    text.Set("logProbability", sequences[i].log_probability);
    text.Set("ended", sequences[i].ended);
    result.Set(static_cast<uint32_t>(i), text);
  }
  return result;
}

}  // namespace

void define_sessions(Napi::Env env, Napi::Object exports) {
  ImageSessionClass::define(env, Napi::Object::New(env),
                            {ImageSessionClass::method<&step_image>("step")});
  TextSessionClass::define(
      env, Napi::Object::New(env),
      {TextSessionClass::method<&step_text>("step"), TextSessionClass::method<&texts>("texts")});
  export_function<&create_image_session>(exports, "createImageSession");
  export_function<&create_text_session>(exports, "createTextSession");
}

}  // namespace vilg::binding
