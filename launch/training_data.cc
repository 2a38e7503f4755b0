#include "launch/training_data.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "launch/batches.h"

namespace lycia {
namespace {

// A size that the data has and the model may have been told.
Status Fit(const char* key, std::int64_t has, std::int64_t& told) {
  if (told == 0) told = has;
  if (told == has) return OkStatus();
  return InvalidArgument("model.", key, " = ", told, ", but the images of data.files have ", has, "; leave the key out");
}

}  // namespace

StatusOr<TrainingData> TrainingData::Open(Config& config) {
  TrainingData data;
  LYCIA_RETURN_IF_ERROR(config.model.reads_text() ? data.OpenText(config) : data.OpenImages(config));
  return data;
}

Status TrainingData::OpenText(const Config& config) {
  LYCIA_ASSIGN_OR_RETURN(TextData text, TextData::Open({.files = config.data.files,
                                                        .held_out = config.data.held_out,
                                                        .fold = config.data.fold,
                                                        .context = config.model.context,
                                                        .batch = config.train.batch,
                                                        .seed = static_cast<std::uint64_t>(config.data.seed)}));
  text_ = std::make_unique<const TextData>(std::move(text));
  training_ = std::make_unique<TrainingText>(*text_);
  held_out_ = std::make_unique<HeldOutText>(*text_);
  return OkStatus();
}

Status TrainingData::OpenImages(Config& config) {
  ImageDataOptions options{.format = config.data.format,
                           .files = config.data.files,
                           .held_out = config.data.held_out,
                           .fold = config.data.fold,
                           .batch = config.train.batch,
                           .seed = static_cast<std::uint64_t>(config.data.seed),
                           .shift = config.data.shift,
                           .mirror = config.data.mirror};
  ModelConfig& model = config.model;
  if (options.format == "generated") {
    options.count = config.data.images;
    options.classes = model.classes == 0 ? 10 : model.classes;
    if (model.height > 0) options.height = model.height;
    if (model.width > 0) options.width = model.width;
    if (model.channels > 0) options.channels = model.channels;
  }
  LYCIA_ASSIGN_OR_RETURN(ImageData images, ImageData::Open(options));
  images_ = std::make_unique<const ImageData>(std::move(images));
  LYCIA_RETURN_IF_ERROR(Fit("height", images_->height(), model.height));
  LYCIA_RETURN_IF_ERROR(Fit("width", images_->width(), model.width));
  LYCIA_RETURN_IF_ERROR(Fit("channels", images_->channels(), model.channels));
  if (model.classes == 0) model.classes = images_->classes();
  if (model.classes < images_->classes()) {
    return InvalidArgument("model.classes = ", model.classes, ", but the labels of data.files need ", images_->classes(),
                           "; raise it, or leave it out");
  }
  for (std::int64_t c = 0; c < std::min<std::int64_t>(images_->channels(), kMaxImageChannels); ++c) {
    const auto at = static_cast<std::size_t>(c);
    model.image_mean[at] = images_->mean()[at];
    model.image_deviation[at] = images_->deviation()[at] > 0 ? images_->deviation()[at] : 1;  // a constant channel says nothing
  }
  training_ = std::make_unique<TrainingImages>(*images_);
  held_out_ = std::make_unique<HeldOutImages>(*images_);
  return OkStatus();
}

std::int64_t TrainingData::held_out_samples() const { return text_ ? text_->held_out_windows() : images_->held_out_images(); }

std::int64_t TrainingData::size() const { return text_ ? static_cast<std::int64_t>(text_->training().size()) : images_->training_images(); }

double CommonestClassShare(const ImageData& images) {
  std::vector<std::int32_t> labels(static_cast<std::size_t>(images.held_out_images()));
  images.LoadHeldOut(0, images.held_out_images(), nullptr, labels.data());
  std::vector<std::int64_t> counts(static_cast<std::size_t>(images.classes()));
  for (const std::int32_t label : labels) ++counts[static_cast<std::size_t>(label)];
  return static_cast<double>(*std::max_element(counts.begin(), counts.end())) / static_cast<double>(labels.size());
}

}  // namespace lycia
